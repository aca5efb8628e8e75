"""One display for many runs, parallel or consecutive: it shows the sum of their counts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, Protocol

from pllm_notebook.display_registry import SafeDisplay, new_display
from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.execution.stop import State
from pllm_notebook.formatting import counted
from pllm_notebook.protocols import Display
from pllm_notebook.types import Progress

__all__ = ["RunSum", "StepsDisplay", "Stoppable", "WindowProgress", "sum_of"]


class Stoppable(Protocol):
    """An object that the display's Stop button stops."""

    def stop(self) -> None:
        """Stop it. From any thread."""


# Counts that are summed. The other fields come from the latest run, or are set for the whole.
_SUMMED = (
    "total", "done", "cached", "failed", "skipped", "in_flight", "rows_per_s", "input_tokens", "output_tokens",
    "cached_tokens", "not_sent", "maybe_paid_requests", "maybe_paid_usd",
)  # fmt: skip


# Commas outside of parentheses: the part after a model's name (such as its effort and tier) has commas too.
_MODELS = re.compile(r", (?![^()]*\))")


def sum_of(first: Progress, second: Progress) -> Progress:
    """Return the summed counts of two runs, with the label and the note of the second.

    The budget and the reserved amount are also the second run's: runs that are shown together share a budget. A call
    that one of them sent and the other joined was paid once.
    """
    summed = {name: getattr(first, name) + getattr(second, name) for name in _SUMMED}
    costs = [None if one.cost_usd is None else one.cost_usd - one.joined_usd for one in (first, second)]
    cost = None if None in costs else max(0.0, sum(one for one in costs if one is not None))
    models = ", ".join(dict.fromkeys(name for one in (first, second) for name in _MODELS.split(one.model)))
    return replace(
        second,
        model=models,
        cost_usd=cost,
        joined_usd=0.0,
        simulated=first.simulated or second.simulated,
        eta_s=None,
        **summed,
    )


def _at_end(counts: Progress) -> Progress:
    """Return the counts of a run that has ended, for the sum: nothing is in flight or reserved."""
    return replace(counts, in_flight=0, rows_per_s=0.0, reserved_usd=0.0)


class RunSum:
    """The summed counts of many runs, ended or running.

    Attributes:
        ended: The sum of the ended runs; None before the first.
    """

    def __init__(self) -> None:
        self.ended: Progress | None = None

    def add(self, counts: Progress) -> None:
        """Add the counts of a run that has ended."""
        counts = _at_end(counts)
        self.ended = counts if self.ended is None else sum_of(self.ended, counts)

    def including(self, going: Iterable[LiveRun]) -> Progress | None:
        """Return the counts of all runs, with the notes of the running ones; None before the first run."""
        whole, news = self.ended, dict[str, None]()
        for run in going:
            counts = run.progress()
            if counts.note:
                news[counts.note] = None
            whole = counts if whole is None else sum_of(whole, counts)
        return replace(whole, note="; ".join(news)) if whole is not None and news else whole


class WindowProgress:
    """The display of the runs of one stream, and the counts of the ended ones.

    Args:
        shown: Whether to show anything.
        label: The display's first words.
    """

    def __init__(self, shown: bool, label: str) -> None:
        self._shown = shown
        self._label = label
        self._display: SafeDisplay | None = None
        self._is_closed = False
        self._sum = RunSum()
        self._began = time.monotonic()

    @property
    def stays(self) -> bool:
        """Whether the display's last line stays in view."""
        return self._display is not None and self._display.stays

    @property
    def failed(self) -> int:
        """Number of failed rows of the ended runs."""
        return 0 if self._sum.ended is None else self._sum.ended.failed

    def open(self, stoppable: Stoppable, run: LiveRun) -> None:
        """Open the display with the first run."""
        if self._display is None:
            self._display = SafeDisplay(new_display() if self._shown else None)
            if (counts := self.whole([run])) is not None:
                self._display.open(counts, stoppable.stop)

    def update(self, going: Sequence[LiveRun]) -> None:
        """Show the current counts."""
        if self._display is not None and (counts := self.whole(going)) is not None:
            self._display.update(counts)

    def add(self, counts: Progress) -> None:
        """Add the counts of a run that has ended."""
        self._sum.add(counts)

    def close(self, going: Sequence[LiveRun], state: Literal["done", "cancelled", "failed"]) -> None:
        """Show the end, once."""
        if self._display is None or self._is_closed:
            return
        if (counts := self.whole(going, state)) is not None:
            self._is_closed = True
            self._display.close(counts, None)

    def whole(self, going: Sequence[LiveRun] = (), state: State = "running") -> Progress | None:
        """Return the counts of all runs, None before the first run."""
        counts = self._sum.including(going)
        if counts is None:
            return None
        return replace(counts, label=self._label, state=state, elapsed_s=time.monotonic() - self._began, eta_s=None)


class StepsDisplay:
    """One display for consecutive runs: each adds its counts to those of the runs before it.

    The first run opens it, in the cell that is running then. The last run, or one that does not end as "done", closes
    it.

    Args:
        shown: Whether to show anything.
        label: The display's first words.
    """

    def __init__(self, shown: bool, label: str) -> None:
        self._shown, self._label = shown, label
        self._display: SafeDisplay | None = None
        self._ended: Progress | None = None
        self._steps = 0
        self._began = time.monotonic()
        self._is_closed = False

    def step(self) -> Display | None:
        """Return the display of the next step, which is not the last; None if nothing is shown."""
        return self._next(is_last=False)

    def last(self) -> Display | None:
        """Return the display of the last step; None if nothing is shown."""
        return self._next(is_last=True)

    def abandon(self) -> None:
        """Close the display as failed if no step has closed it: no further step comes."""
        if self._display is not None and self._ended is not None and not self._is_closed:
            self._is_closed = True
            self._display.close(replace(self._ended, state="failed"), None)

    def whole(self, before: Progress | None, progress: Progress) -> Progress:
        """Return the summed counts of a step and the steps before it."""
        whole = progress if before is None else sum_of(before, progress)
        label = f"{self._label}, {counted(self._steps, 'step')}"
        return replace(whole, label=label, elapsed_s=time.monotonic() - self._began)

    def end(self, counts: Progress, *, is_over: bool) -> None:
        """Note the summed counts up to a step that has ended, and whether it was the last."""
        self._ended, self._is_closed = _at_end(counts), is_over

    def _next(self, *, is_last: bool) -> Display | None:
        self._steps += 1
        if self._display is None:
            shown = new_display() if self._shown else None
            self._display = None if shown is None else SafeDisplay(shown)
        return None if self._display is None else _Step(self, self._display, self._ended, is_last)


class _Step:
    """The display that the run of one step uses."""

    def __init__(self, steps: StepsDisplay, display: SafeDisplay, before: Progress | None, is_last: bool) -> None:
        self._steps, self._display, self._before, self._is_last = steps, display, before, is_last

    @property
    def stays(self) -> bool:
        return self._display.stays

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show that the step begins."""
        self._display.open(self._steps.whole(self._before, progress), cancel)

    def update(self, progress: Progress) -> None:
        """Show the current counts of all steps."""
        self._display.update(self._steps.whole(self._before, progress))

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Show the end if no further step comes. No retry is offered: running the cell again sends failed rows."""
        whole, is_over = self._steps.whole(self._before, progress), self._is_last or progress.state != "done"
        if is_over:
            self._display.close(whole, None)
        self._steps.end(whole, is_over=is_over)
