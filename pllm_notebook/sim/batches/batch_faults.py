"""Faults of jobs and their lines, drawn when a job is created."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pllm_notebook.sim.batches.sim_jobs import SimLine
from pllm_notebook.sim.draws import digest, share
from pllm_notebook.sim.simulator_options import SimOptions

__all__ = ["BatchFaults"]

_OF_JOBS = ("batch_create_lost", "batch_create_500", "batch_fail")
_OF_LINES = (("error", "batch_line_error"), ("missing", "batch_missing"), ("expire", "batch_expire"))


class BatchFaults:
    """The draws of one simulator. `_left` is the number of next jobs that each option still affects."""

    def __init__(self) -> None:
        self._left: Counter[str] = Counter()
        self._drawn: Counter[str] = Counter()
        self._tries: Counter[str] = Counter()

    def arm(self, options: SimOptions, named: Sequence[str]) -> None:
        """Apply options; *named* are those just set, whose counts start again."""
        for name in _OF_JOBS:
            if name in named:
                value = getattr(options, name)
                self._left[name] = int(value) if value >= 1 else 0

    def strikes(self, name: str, options: SimOptions, seed: int) -> bool:
        """Draw whether the option *name* affects the job that is being created."""
        rate = getattr(options, name)
        if rate >= 1:
            self._left[name] -= 1
            return self._left[name] >= 0
        self._drawn[name] += 1
        return bool(rate) and share(digest(seed, name.encode()), b"%d" % self._drawn[name]) < rate

    def assign(self, lines: Sequence[SimLine], options: SimOptions, seed: int) -> None:
        """Plan the faults of the lines.

        The number of lines with a fault is the option's share of all lines, rounded, so that tests can count them.
        The choice of lines depends on the seed, the id and (except with `faults_by` "prompt") the number of times
        that the id was submitted: a line that is submitted again may succeed.
        """
        if not any(getattr(options, name) for _, name in _OF_LINES):
            return
        drawn = []
        for at, line in enumerate(lines):
            tried = self._tries[line.custom_id] if options.faults_by == "request" else 0
            self._tries[line.custom_id] += 1
            drawn.append((share(digest(seed, line.custom_id.encode("utf-8", "replace")), b"fate%d" % tried), at))
        drawn.sort()
        start = 0
        for planned_fault, name in _OF_LINES:
            end = start + int(len(lines) * getattr(options, name) + 0.5)
            for _, at in drawn[start:end]:
                lines[at].planned_fault = planned_fault
            start = end

    @staticmethod
    def order(lines: Sequence[SimLine], options: SimOptions, seed: int) -> Sequence[int]:
        """Return the order of the results, as indices of *lines*."""
        if not options.batch_shuffle:
            return range(len(lines))
        key = digest(seed, b"order")
        return sorted(range(len(lines)), key=lambda at: share(key, b"%d" % at))
