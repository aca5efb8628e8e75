"""Write the result of each finished line, in a separate thread.

The engine's loop passes only the index of the line, so that nothing large waits in the queue. The response is read from
the store, where it was committed first.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import orjson

from pllm_notebook.execution import Outcome
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.protocols import Store
from pllm_notebook.request_files.chunks import LineChunk
from pllm_notebook.request_files.line_formats import RequestFileLine, result_line
from pllm_notebook.request_files.request_index import RequestIndex
from pllm_notebook.request_files.results_file import ResultsFile
from pllm_notebook.stored_reply import StoredReply

__all__ = ["LineCounts", "ResultWriter", "offsets_of"]

logger = logging.getLogger("pllm_notebook")

# Maximum number of lines in one write.
_MAX_WRITE_LINES = 500
# Queue length from which lines that fail without being sent are held back.
_MAX_QUEUED_LINES = 5_000


@dataclass(frozen=True, slots=True)
class LineCounts:
    """Finished lines by result (see `FileStatus`).

    Attributes:
        succeeded: Lines with the provider's response.
        rate_limit_errors: Lines that failed with a rate limit, after all attempts.
        api_errors: Lines that the provider rejected for another reason, or could not serve.
        other_errors: All other failed lines: no connection, a timeout, an invalid request.
        not_sent: Lines without a result, because of the budget or `cache="only"`.
    """

    succeeded: int = 0
    rate_limit_errors: int = 0
    api_errors: int = 0
    other_errors: int = 0
    not_sent: int = 0

    @property
    def failed(self) -> int:
        """Number of lines with an error."""
        return self.rate_limit_errors + self.api_errors + self.other_errors

    def adding(self, name: str) -> LineCounts:
        """Return the counts with one more in the field *name*."""
        return replace(self, **{name: getattr(self, name) + 1})


class _FinishedLine(NamedTuple):
    """A line that has ended.

    Attributes:
        row: Its index among the file's requests.
        chunk: The chunk that has its outcome, None if it was never sent.
        at: Its index in the chunk.
        failure: Why it was never sent, None otherwise.
    """

    row: int
    chunk: LineChunk | None
    at: int
    failure: Failure | None


class ResultWriter:
    """A writer of results with its own thread. Lines may be added from any thread.

    Args:
        index: The requests.
        file: The results file.
        store: The store of the responses.
        on_written: Called after each group of lines.

    Attributes:
        counts: Counts of the written lines.
        error: The error that ended the writing, None for none.
    """

    def __init__(
        self,
        index: RequestIndex,
        file: ResultsFile,
        store: Store,
        on_written: Callable[[], None],
    ) -> None:
        self.counts = LineCounts()
        self.error: Exception | None = None
        self._index = index
        self._file = file
        self._store = store
        self._on_written = on_written
        self._queue: SimpleQueue[_FinishedLine | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="pllm-results", daemon=True)

    def begin(self) -> None:
        """Start the writer's thread."""
        self._thread.start()

    def on_done(self, chunk: LineChunk, at: int) -> None:
        """Queue a finished line of a chunk."""
        self._queue.put(_FinishedLine(chunk.rows[at], chunk, at, None))

    @property
    def is_behind(self) -> bool:
        """Whether lines that fail without being sent should wait."""
        return self._queue.qsize() > _MAX_QUEUED_LINES

    def fail(self, rows: Sequence[int], failure: Failure) -> None:
        """Queue lines that fail without being sent."""
        for row in rows:
            self._queue.put(_FinishedLine(row, None, 0, failure))

    def end(self) -> None:
        """Wait until all queued lines are written, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _main(self) -> None:
        going = True
        while going:
            group, going = self._group()
            if self.error is None:
                try:
                    self._write(group)
                except Exception as error:
                    logger.debug("Results cannot be written", exc_info=True)
                    self.error = error
            for one in group:
                if one.chunk is not None:
                    one.chunk.left -= 1
            self._on_written()

    def _group(self) -> tuple[list[_FinishedLine], bool]:
        group: list[_FinishedLine] = []
        try:
            one = self._queue.get()
            while one is not None:
                group.append(one)
                if len(group) == _MAX_WRITE_LINES:
                    return group, True
                one = self._queue.get_nowait()
        except Empty:
            return group, True
        return group, False

    def _write(self, group: Sequence[_FinishedLine]) -> None:
        outcomes = [_outcome_of(one) for one in group]
        entries = self._entries(outcome for outcome in outcomes if isinstance(outcome, Outcome))
        rows: list[int] = []
        lines: list[bytes] = []
        counts = self.counts
        for one, outcome in zip(group, outcomes, strict=True):
            failure = outcome.failure if isinstance(outcome, Outcome) else outcome
            entry = None
            if isinstance(outcome, Outcome):
                entry = outcome.entry or entries.get(outcome.key)
            if failure is not None and failure.kind.fatal and one.chunk is not None:
                one.chunk.fatal_failure = failure
            if entry is None and (failure is None or failure.kind.facts.line == "not_sent"):
                counts = counts.adding("not_sent")
                continue
            line = self._index.line(one.row)
            number = self._index.numbers[one.row]
            # A stored reply is a response, even if it is truncated, refuses, or calls tools.
            if entry is not None:
                written, failure = self._response(line, number, entry)
            else:
                assert failure is not None
                written = result_line(line, number, failure)
            lines.append(written)
            rows.append(one.row)
            counts = counts.adding("succeeded" if failure is None else failure.kind.facts.line)
        for row, offset in zip(rows, self._file.append(lines), strict=True):
            self._index.written[row] = offset
        self.counts = counts

    def _entries(self, outcomes: Iterable[Outcome]) -> dict[str, StoredReply]:
        keys = [outcome.key for outcome in outcomes if outcome.entry is None and outcome.metas]
        return self._store.get_many(keys) if keys else {}

    def _response(self, line: RequestFileLine, number: int, entry: StoredReply) -> tuple[bytes, Failure | None]:
        metadata: dict[str, Any] = entry.metadata
        try:
            body = orjson.loads(entry.raw)
            written = result_line(
                line,
                number,
                body,
                request_id=metadata["request_id"],
                cost_usd=metadata["cost_usd"],
                latency_s=metadata["latency_s"],
            )
        except (ValueError, TypeError) as error:
            failure = Failure(FailureKind.MALFORMED, f"The provider's reply cannot be written as JSON again: {error}")
            return result_line(line, number, failure), failure
        return written, None


def _outcome_of(one: _FinishedLine) -> Outcome | Failure | None:
    """Return the outcome of a line, None if its chunk has none."""
    if one.failure is not None:
        return one.failure
    assert one.chunk is not None
    run = one.chunk.started_run()
    if run is None:
        return None
    return run.table.outcome(one.at) or run.table.failure(one.at)


def offsets_of(index: RequestIndex) -> array[int]:
    """Return the offsets of the results, in the order of their requests."""
    return array("q", (offset for offset in index.written if offset >= 0))
