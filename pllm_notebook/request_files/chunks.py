"""The lines of a request file as runs: some thousands of lines per chunk, one sequence of chunks per model.

A chunk is an ordinary run, so limits, retries, cached answers and the budget work as usual. The chunks of a model
overlap, so that one late reply delays nothing; and no model waits for another.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from pllm_notebook.engine import RetryBounds, UserRateLimit
from pllm_notebook.execution import CallSpec, LiveRun, Part, RunBudget, WholePrompts, forget, options_for, start_list
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Dialogue, Prompt, RawRequest, Turn
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.request_files.endpoints import body_for
from pllm_notebook.request_files.request_index import LineGroup, RequestIndex

__all__ = ["ChunkMaker", "ChunkScheduler", "LineChunk"]

# Lines of one chunk; the store looks up at most five thousand keys at once.
CHUNK_LINES = 4_000
# Lines with images are large, and a chunk is read whole when it is planned.
_MAX_CHUNK_BYTES = 16 * 2**20
# The next chunk of a model starts when at most this many of its lines are open.
_START_NEXT_AT = CHUNK_LINES // 2


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
        rows: The lines, by their index among the file's requests.
        left: Lines that have not been written; counted down by the writer.
        fatal_failure: A rejection that affects all lines of the model (key, model or credit), after which nothing more
            is sent to it; None for none. Set by the writer.
    """

    def __init__(self, label: str, rows: array[int], bodies: RequestBodies) -> None:
        self.label = label
        self.rows = rows
        self.total = self.left = len(rows)
        self.fatal_failure: Failure | None = None
        self._bodies = bodies
        self._run: LiveRun | None = None
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
            self._run = start_list([part], self, on_done, cache_dir=cache_dir, run_budget=run_budget)
            forget(self._run)  # not listed in pllm.runs(): the caller started a file, not these
        finally:
            self._begun.set()

    @property
    def run(self) -> LiveRun | None:
        """The run, None if it could not be started. Waits for the start; from any thread."""
        # The first results may arrive before `start_list` returns.
        self._begun.wait()
        return self._run

    def release(self) -> None:
        """Discard the results of its lines once all are written."""
        if self.left == 0 and self._run is not None:
            self._run.table.clear()

    @property
    def over(self) -> bool:
        """Whether no more results will arrive."""
        run = self.run
        return run is None or (run.done() and (self.left == 0 or run.state != "done"))


class ChunkMaker:
    """Start runs over lines of a file.

    Args:
        index: The file.
        options: Options of all runs.
        rates: Requests and tokens per minute, each None for no limit, for a provider and account together.
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

    def make(self, group: LineGroup, rows: array[int], on_done: Callable[[LineChunk, int], None]) -> LineChunk:
        """Start a run over some lines of a group; *on_done* is called on the engine's loop with each finished line.

        Raises:
            UsageError: If the lines' model cannot be used. Nothing was sent.
        """
        ask = self.spec_of(group)
        limit = self._missing_limit(ask) if self.max_cost_usd is not None and group.output_limit is None else {}
        target = group.target

        def make_body(row: int) -> RawRequest:
            body = body_for(self._index.line(row), target)
            return RawRequest(_with_output_limit(body, limit) if limit else body)

        bodies = RequestBodies(self._index, rows, make_body)
        chunk = LineChunk(self.label, rows, bodies)
        chunk.begin(Part(ask, range(len(rows)), bodies), lambda row: on_done(chunk, row), self._cache_dir, self._budget)
        return chunk

    def spec_of(self, group: LineGroup) -> CallSpec:
        """Build the spec of a group."""
        target = group.target
        given = {"model": target.label, "max_output_tokens": group.output_limit}
        ask = CallSpec(target, options_for(self._options | given), None, None, calls=True)
        ask.retry_bounds = RetryBounds()
        if self._rates != (None, None):
            account = target.provider, target.account
            ask.ceiling = self._ceilings.setdefault(account, UserRateLimit(*self._rates))
        return ask

    def _missing_limit(self, ask: CallSpec) -> dict[str, Any]:
        """Return the field for the output limit, for lines without one: a budget needs a limit in every call."""
        empty = ask.target.wire.output_limit
        canonical_body = ask.encoder.body(Dialogue((Turn("user", "-"),)))
        return {name: value for name, value in canonical_body.items() if empty({name: value}) is not None}


class ChunkScheduler:
    """The lines of one model, sent chunk by chunk. Used from one thread.

    Args:
        groups: The model's lines, in the order of their waves.
        maker: Starts the chunks.
        sizes: Returns the size of a line in bytes.

    Attributes:
        target: The model.
        chunks: Chunks that are not over.
        begun: Number of lines in chunks that were started, or failed unsent.
        stopped: Set to start no more chunks.
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
        """Number of started lines that have not been written."""
        return sum(chunk.left for chunk in self.chunks)

    @property
    def over(self) -> bool:
        """Whether no more lines will be written."""
        return not self.chunks and (self._next is None or self.stopped)

    def start_next(
        self, on_done: Callable[[LineChunk, int], None], failed: Callable[[Sequence[int], Failure], bool]
    ) -> None:
        """Start the chunks that can be started now.

        Args:
            on_done: See `ChunkMaker.make`.
            failed: Takes lines that fail without being sent; returns False if its queue is full.
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

    def ended(self) -> list[LiveRun]:
        """Remove the chunks that are over, and return their runs."""
        over = [chunk for chunk in self.chunks if chunk.over]
        for chunk in self.chunks:
            self._fatal_failure = self._fatal_failure or chunk.fatal_failure
        self.chunks = [chunk for chunk in self.chunks if chunk not in over]
        for chunk in over:
            chunk.release()
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
