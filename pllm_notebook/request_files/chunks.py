"""A request file's lines as runs: some thousands at a time for each model, the next before the last have ended.

A window is a run like any other, so limits, retries, the answers that are known and the money are the engine's
business. A model's windows overlap, so that one late reply holds nothing up; and no model waits for another's.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from pllm_notebook.engine import RetryBounds, UserRateLimit
from pllm_notebook.execution import CallSpec, Part, Run, RunBudget, WholePrompts, forget, options_for, start_list
from pllm_notebook.messages_types import Dialogue, Prompt, RawRequest, Turn
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.records import Failure
from pllm_notebook.request_files.endpoints import body_for
from pllm_notebook.request_files.groups import LineGroup
from pllm_notebook.request_files.request_index import RequestIndex

__all__ = ["ChunkMaker", "ChunkScheduler", "LineChunk"]

# Lines of one window; a store's look-up takes five thousand at once.
CHUNK_LINES = 4_000
# Lines with pictures are large: what is planned is read whole.
_MAX_CHUNK_BYTES = 16 * 2**20
# Where a model has as few lines left open, its next window begins.
_START_NEXT_AT = CHUNK_LINES // 2


class RequestBodies(Sequence[Prompt]):
    """The bodies of some lines, read from the file whenever one is needed.

    Args:
        index: The file.
        rows: The lines.
        make_body: Makes the body of a line.
    """

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
    """Some lines of one question, and the run that asks them (see `run.Rows`).

    Args:
        label: A few words for failures that are kept.
        rows: The lines, by their place among the file's requests.
        bodies: What they ask.

    Attributes:
        rows: As given.
        left: Lines of it that have not been written. The writer counts it down.
        fatal_failure: Why nothing more is sent to the model: what the provider said of the key, the model or the
            credit. None while that may go on. The writer sets it.
    """

    def __init__(self, label: str, rows: array[int], bodies: RequestBodies) -> None:
        self.label = label
        self.rows = rows
        self.total = self.left = len(rows)
        self.fatal_failure: Failure | None = None
        self._bodies = bodies
        self._run: Run | None = None
        self._begun = threading.Event()

    def prompts(self, rows: range) -> Sequence[Prompt]:
        """Return the bodies of some lines."""
        return self._bodies[rows.start : rows.stop]

    def assemble(self, run: Run) -> None:
        """Return nothing: results are written as they land."""

    def errors(self, run: Run) -> None:
        """Return nothing, likewise."""

    def begin(self, part: Part, on_done: Callable[[int], None], cache_dir: str | None, run_budget: RunBudget) -> None:
        """Start its run."""
        try:
            self._run = start_list([part], self, on_done, cache_dir=cache_dir, run_budget=run_budget)
            forget(self._run)  # a person asked for a file, not for these
        finally:
            self._begun.set()

    @property
    def run(self) -> Run | None:
        """The run, once it has been started; None where it could not be. From any thread."""
        # Its first results may land before whoever starts it has it in hand.
        self._begun.wait()
        return self._run

    def let_go(self) -> None:
        """Forget how each line ended, where all are written."""
        if self.left == 0 and self._run is not None:
            self._run.ledger.clear()

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        run = self.run
        return run is None or (run.done() and (self.left == 0 or run.state != "done"))


class ChunkMaker:
    """Make windows of a file's lines.

    Args:
        index: The file.
        options: Of all runs, as keywords.
        rates: Requests and tokens a minute, each None for no ceiling: of one provider and account together.
        cache_dir: Where answers are kept, None for the configured place.
        label: A few words for failures that are kept.
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
        self._label = label
        self._ceilings: dict[tuple[str, str], UserRateLimit] = {}
        self._purse = RunBudget(options.get("max_cost_usd"))

    def make(self, group: LineGroup, rows: array[int], on_done: Callable[[LineChunk, int], None]) -> LineChunk:
        """Start a run over some lines of a group; *heard* is called on the engine's loop, with each that has ended.

        Raises:
            UsageError: Where they cannot be asked, whatever they say. Nothing was sent.
        """
        ask = self.ask(group)
        limit = self._missing_limit(ask) if self._purse.ceiling_usd is not None and group.output_limit is None else {}
        target = group.target

        def make_body(row: int) -> RawRequest:
            body = body_for(self._index.line(row), target)
            return RawRequest(_with_output_limit(body, limit) if limit else body)

        bodies = RequestBodies(self._index, rows, make_body)
        chunk = LineChunk(self._label, rows, bodies)
        chunk.begin(Part(ask, range(len(rows)), bodies), lambda row: on_done(chunk, row), self._cache_dir, self._purse)
        return chunk

    def ask(self, group: LineGroup) -> CallSpec:
        """Make the question of a group."""
        target = group.target
        given = {"model": target.label, "max_output_tokens": group.output_limit}
        ask = CallSpec(target, options_for(self._options | given), None, None, calls=True)
        ask.retry_bounds = RetryBounds()
        if self._rates != (None, None):
            account = target.provider, target.account
            ask.ceiling = self._ceilings.setdefault(account, UserRateLimit(*self._rates))
        return ask

    def _missing_limit(self, ask: CallSpec) -> dict[str, Any]:
        """Return the field that bounds a reply, for lines that bound none: under a ceiling every call needs it."""
        empty = ask.target.wire.output_limit
        canonical_body = ask.canonical_body(Dialogue((Turn("user", "-"),)))
        return {name: value for name, value in canonical_body.items() if empty({name: value}) is not None}


class ChunkScheduler:
    """The lines of one model, window by window. Used by one thread, except what says otherwise.

    Args:
        groups: What is asked of it, in the order of their waves.
        maker: Makes the windows.
        sizes: Gives the bytes of a line.

    Attributes:
        target: The model.
        chunks: Those that are not over.
        begun: Lines that were taken up.
        stopped: Whether nothing more is begun.
    """

    def __init__(self, groups: Sequence[LineGroup], maker: ChunkMaker, sizes: Callable[[int], int]) -> None:
        self.target: ResolvedModel = groups[0].target
        self.chunks: list[LineChunk] = []
        self.begun = 0
        self.stopped = False
        self._fatal_failure: Failure | None = None
        self._wave = 0
        self._maker = maker
        self._sizes = sizes
        self._chunks = self._cut(groups)
        self._next: tuple[LineGroup, array[int]] | None = next(self._chunks, None)

    @property
    def open(self) -> int:
        """Lines that were begun and have not been written."""
        return sum(chunk.left for chunk in self.chunks)

    @property
    def over(self) -> bool:
        """Whether all is written that will be."""
        return not self.chunks and (self._next is None or self.stopped)

    def start_next(
        self, on_done: Callable[[LineChunk, int], None], failed: Callable[[Sequence[int], Failure], bool]
    ) -> None:
        """Begin what can be begun now.

        Args:
            on_done: See `ChunkMaker.make`.
            failed: Takes lines that fail without being asked; False where it has no room for them now.
        """
        while self._next is not None and not self.stopped:
            group, rows = self._next
            if self._fatal_failure is not None:
                if not failed(rows, self._fatal_failure):
                    return
            elif self.open > _START_NEXT_AT or (self.chunks and group.wave > self._wave):
                return
            else:
                self._wave = group.wave
                self.chunks.append(self._maker.make(group, rows, on_done))
            self.begun += len(rows)
            self._next = next(self._chunks, None)

    def ended(self) -> list[Run]:
        """Let go of the windows that are over, and give their runs."""
        over = [chunk for chunk in self.chunks if chunk.over]
        for chunk in self.chunks:
            self._fatal_failure = self._fatal_failure or chunk.fatal_failure
        self.chunks = [chunk for chunk in self.chunks if chunk not in over]
        for chunk in over:
            chunk.let_go()
        return [chunk.run for chunk in over if chunk.run is not None]

    def _cut(self, groups: Sequence[LineGroup]) -> Iterator[tuple[LineGroup, array[int]]]:
        for group in groups:
            begin = size = 0
            for at, row in enumerate(group.rows):
                size += self._sizes(row)
                if at - begin == CHUNK_LINES - 1 or size >= _MAX_CHUNK_BYTES:
                    yield group, group.rows[begin : at + 1]
                    begin, size = at + 1, 0
            if begin < len(group.rows):
                yield group, group.rows[begin:]


def _with_output_limit(body: dict[str, Any], limit: dict[str, Any]) -> dict[str, Any]:
    ((name, value),) = limit.items()
    nested = isinstance(value, dict) and isinstance(body.get(name), dict)
    return body | {name: body[name] | value if nested else value}
