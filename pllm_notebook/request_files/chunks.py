"""The lines of a request file as runs, each over a chunk of up to a few thousand lines.

A chunk is an ordinary run, so limits, retries, cached answers and the budget work as usual.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Sequence
from typing import Any, overload

from pllm_notebook.engine import RetryBounds, UserRateLimit
from pllm_notebook.execution import CallSpec, LiveRun, Part, RunBudget, WholePrompts, forget, options_for, start_list
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Dialogue, Prompt, RawRequest, Turn
from pllm_notebook.request_files.endpoints import body_for
from pllm_notebook.request_files.request_index import LineGroup, RequestIndex
from pllm_notebook.types import Progress

__all__ = ["ChunkMaker", "LineChunk", "OnDone"]


OnDone = Callable[["LineChunk", int], None]
"""Called on the engine's loop for each finished line of a chunk, with its index in the chunk."""


class RequestBodies(Sequence[Prompt]):
    """The bodies of some lines, read from the file on each access."""

    def __init__(self, index: RequestIndex, rows: array[int], make_body: Callable[[int], RawRequest]) -> None:
        self._index = index
        self._rows = rows
        self._make_body = make_body

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Prompt: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Prompt]: ...
    def __getitem__(self, at: int | slice) -> Prompt | Sequence[Prompt]:
        return (
            [self._make_body(row) for row in self._rows[at]]
            if isinstance(at, slice)
            else self._make_body(self._rows[at])
        )


class LineChunk(WholePrompts):
    """Some lines of one spec as rows, and their run.

    Attributes:
        run: The run, set once it is started. Other threads use `started_run`.
        rows: The lines, by their index among the file's requests.
        left: Number of lines that have not been written. The writer counts it down.
        fatal_failure: A rejection that affects all lines of the model (key, model or credit), after which nothing more
            is sent to it. None if there is no such rejection. Set by the writer.
    """

    run: LiveRun

    def __init__(self, label: str, rows: array[int], bodies: RequestBodies) -> None:
        self.label = label
        self.rows = rows
        self.total = self.left = len(rows)
        self.fatal_failure: Failure | None = None
        self._bodies = bodies
        self._begun = threading.Event()

    def prompts(self, rows: range) -> Sequence[Prompt]:
        """Return the bodies of some lines."""
        return self._bodies[rows.start : rows.stop]

    def assemble(self, run: LiveRun) -> None:
        """Return None: results are written as they arrive."""

    def errors(self, run: LiveRun) -> None:
        """Return None: errors are written as they arrive."""

    def begin(self, part: Part, on_done: Callable[[int], None], cache_dir: str | None, run_budget: RunBudget) -> None:
        """Start its run."""
        try:
            self.run = start_list([part], self, on_done, cache_dir=cache_dir, run_budget=run_budget)
            forget(self.run)  # not listed in pllm.runs(): the caller started a file, not these runs
        finally:
            self._begun.set()

    def started_run(self) -> LiveRun | None:
        """Wait for the start and return the run, or None if it could not be started. Callable from any thread."""
        # The first results may arrive before `start_list` returns.
        self._begun.wait()
        return getattr(self, "run", None)

    def release(self) -> None:
        """Discard the results of its lines once all are written."""
        if self.left == 0:
            self.run.table.clear()

    def is_over(self) -> bool:
        """Return whether no more results will arrive and, unless the run was stopped, all are written."""
        return self.run.done() and (self.left == 0 or self.run.state != "done")

    def open_rows(self, counts: Progress) -> int:
        """Return the number of its lines that have not been written."""
        return self.left


class ChunkMaker:
    """The maker of runs over lines of a file.

    Args:
        index: The file.
        options: Options of all runs.
        rates: Requests and tokens per minute, each None for no limit. They apply to each account of a provider.
        cache_dir: Directory of the cache, None for the configured one.
        label: Name of the file for displays and logs.
    """

    def __init__(
        self,
        index: RequestIndex,
        options: dict[str, Any],
        rates: tuple[float | None, float | None],
        cache_dir: str | None,
        label: str,
    ) -> None:
        self._index = index
        self._options = options
        self._rates = rates
        self._cache_dir = cache_dir
        self.label = label
        self.max_cost_usd: float | None = options.get("max_cost_usd")
        self._ceilings: dict[tuple[str, str], UserRateLimit] = {}
        self._budget = RunBudget(self.max_cost_usd)

    def start(self, group: LineGroup, rows: array[int], on_done: OnDone) -> LineChunk:
        """Start a run over some lines of a group.

        Raises:
            UsageError: If the lines' model cannot be used. Nothing was sent.
        """
        spec = self.spec_of(group)
        limit = self._missing_limit(spec) if self.max_cost_usd is not None and group.output_limit is None else {}
        target = group.target

        def make_body(row: int) -> RawRequest:
            body = body_for(self._index.line(row), target)
            return RawRequest(_with_output_limit(body, limit) if limit else body)

        bodies = RequestBodies(self._index, rows, make_body)
        chunk = LineChunk(self.label, rows, bodies)
        chunk.begin(
            Part(spec, range(len(rows)), bodies), lambda row: on_done(chunk, row), self._cache_dir, self._budget
        )
        return chunk

    def spec_of(self, group: LineGroup) -> CallSpec:
        """Build the spec of a group."""
        target = group.target
        given = {"model": target.label, "max_output_tokens": group.output_limit}
        spec = CallSpec(target, options_for(self._options | given), None, None, calls=True)
        spec.retry_bounds = RetryBounds()
        if self._rates != (None, None):
            account = target.provider, target.account
            spec.ceiling = self._ceilings.setdefault(account, UserRateLimit(*self._rates))
        return spec

    def _missing_limit(self, spec: CallSpec) -> dict[str, Any]:
        """Return the output-limit field for lines that have none, because a budget needs a limit in every call."""
        empty = spec.target.wire.output_limit
        canonical_body = spec.encoder.body(Dialogue((Turn("user", "-"),)))
        return {name: value for name, value in canonical_body.items() if empty({name: value}) is not None}


def _with_output_limit(body: dict[str, Any], limit: dict[str, Any]) -> dict[str, Any]:
    ((name, value),) = limit.items()
    nested = isinstance(value, dict) and isinstance(body.get(name), dict)
    return body | {name: body[name] | value if nested else value}
