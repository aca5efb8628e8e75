"""The lines of one model of a request file, as a window of chunks; no model waits for another."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, starmap
from operator import attrgetter

from pllm_notebook.execution import LiveRun, RunWindow
from pllm_notebook.failures import Failure
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.request_files.chunks import LineChunk
from pllm_notebook.request_files.request_index import LineGroup

__all__ = ["ModelLines", "StartChunk"]

# Lines of one chunk; the store looks up at most five thousand keys at once.
CHUNK_LINES = 4_000
# Lines with images are large, and a whole chunk is read when it is planned.
_MAX_CHUNK_BYTES = 16 * 2**20
# The next chunk starts when fewer lines than this are open, so that one late reply delays nothing.
_WANTED_LINES = CHUNK_LINES // 2 + 1
# Chunks that wait for a late line hold their results until it is written. The limit is in units of `_WANTED_LINES`,
# half a chunk: at most a dozen chunks are held.
_MOST_HELD = 24

StartChunk = Callable[[LineGroup, "array[int]"], LineChunk]
"""Starts the run of some lines of a group (see `ChunkMaker.start`)."""


class ModelLines:
    """The lines of one model, sent chunk by chunk, wave after wave. Used from one thread.

    Args:
        groups: The model's lines, in the order of their waves; at least one group.
        start: Starts a chunk.
        size: Returns the size of a line in bytes.

    Attributes:
        target: The model.
        begun: Number of lines in chunks that were started.
        refusal: The reason why the model refuses every line (key, model or credit). None while it accepts lines.
    """

    def __init__(self, groups: Sequence[LineGroup], start: StartChunk, size: Callable[[int], int]) -> None:
        self.target: ResolvedModel = groups[0].target
        self.begun = 0
        self.refusal: Failure | None = None
        self._start = start
        self._waves = deque(_cut([*wave], size) for _, wave in groupby(groups, attrgetter("wave")))
        self._open_wave()

    @property
    def runs(self) -> list[LiveRun]:
        """The runs of the chunks that are not over."""
        return self._window.runs

    @property
    def error(self) -> Exception | None:
        """The error that kept a chunk from starting. None if there was no such error."""
        return self._window.error

    @property
    def is_over(self) -> bool:
        """Whether no more lines will be written."""
        return self._window.is_over and not self._waves

    def fill(self) -> None:
        """Start the chunks that are due. A wave starts when the previous one is over."""
        if self._window.is_over and self._waves:
            self._open_wave()
        self._window.fill(self._started)
        if self._window.error is not None:
            self._waves.clear()

    def take_over(self) -> list[LiveRun]:
        """Remove the finished chunks and return their runs. After a refusal, no further chunk is started."""
        if self.refusal is None:
            self.refusal = next(filter(None, (chunk.fatal_failure for chunk in self._window.pieces)), None)
            if self.refusal is not None:
                self._window.no_more()
        over = self._window.take_over()
        for chunk in over:
            chunk.release()
        return [chunk.run for chunk in over]

    def take_rest(self) -> Iterator[Sequence[int]]:
        """Return the lines that are not in a chunk yet, which will not be sent."""
        rest = chain(self._lines, *self._waves)
        self._waves.clear()
        return (rows for _, rows in rest)

    def stop(self) -> None:
        """Start no more chunks, and cancel the running ones."""
        self._waves.clear()
        self._window.stop()

    def _open_wave(self) -> None:
        self._window = RunWindow[LineChunk](_WANTED_LINES, most_held=_MOST_HELD)
        self._lines = self._waves.popleft()
        self._started = starmap(self._start_chunk, self._lines)

    def _start_chunk(self, group: LineGroup, rows: array[int]) -> LineChunk:
        chunk = self._start(group, rows)
        self.begun += len(rows)
        return chunk


def _cut(groups: Iterable[LineGroup], size: Callable[[int], int]) -> Iterator[tuple[LineGroup, array[int]]]:
    """Cut the lines of groups into chunks, in order."""
    for group in groups:
        begin = size_b = 0
        for at, row in enumerate(group.rows):
            size_b += size(row)
            if at - begin == CHUNK_LINES - 1 or size_b >= _MAX_CHUNK_BYTES:
                yield group, group.rows[begin : at + 1]
                begin, size_b = at + 1, 0
        if begin < len(group.rows):
            yield group, group.rows[begin:]
