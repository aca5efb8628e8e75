"""`parse_batches`: an iterator of tables with answers from an iterable of tables, in bounded memory."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Unpack

from pllm_notebook.callers import Caller, caller
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import LiveRun, RunBudget, WindowProgress, options_for
from pllm_notebook.frames.accessor import submit_piece
from pllm_notebook.frames.guarantees import refuse_in_pieces
from pllm_notebook.frames.libraries import accessor_of, table_of
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of, output_of
from pllm_notebook.frames.result_columns import ResultColumns, check_column
from pllm_notebook.options import Options, ParseOptions, check_row_count, refuse_unread, taken_by
from pllm_notebook.signatures import shows
from pllm_notebook.streams.table_window import Answered, TablePiece, TableWindow

__all__ = ["answered", "aparse_batches", "cut", "parse_batches", "window_for"]

# How often a wait checks whether another table is wanted and updates the progress.
_TICK_S = 0.05
_ROWS = 20_000
# Maximum time for stopped runs to store the answers that have arrived.
_GRACE_S = 10.0


@shows(taken_by(Options, "parse"))
def parse_batches(
    tables: Iterable[Any],
    response_format: Any = NOT_GIVEN,
    prompt: str | None = None,
    *,
    rows: int = _ROWS,
    **options: Unpack[ParseOptions],
) -> Generator[Any, None, None]:
    r"""Ask the same question about every row of many tables, and yield each with its answers.

    Memory is bounded: a few tables are read ahead of the next one to yield, and yielded tables are not kept. All tables
    share limits, cached answers, `max_cost_usd` and one display. Closing the iterator early cancels the calls in
    flight; answers that have arrived are in the cache.

    Args:
        tables: Frames of any library that `.llm` supports. They are read one at a time, as late as possible without
            making the model wait.
        response_format: As for `df.llm.parse`.
        prompt: As for `df.llm.parse`.
        rows: Maximum rows of one run. A larger table is returned in pieces of this many rows.
        **options: As for `df.llm.parse`.

    Yields:
        Each table as `df.llm.parse` returns it, in order. Rows without an answer have NA, and one warning at the end
        counts them.

    Raises:
        UsageError: If a table or the arguments are invalid. The tables before it are yielded first.
        BudgetError: If `max_cost_usd` was reached, after everything paid for was yielded.
        ProviderRejectedError: If the key, model or quota was refused. Finished answers are kept.
        KeyboardInterrupt: After an interrupt. Finished answers are kept, and the next run resumes.

    Example:
        for part in pllm.parse_batches(pd.read_csv("big.csv", chunksize=20_000), Review, "Read:\n{text}"):
            part.to_csv("out.csv", mode="a")
    """
    if not isinstance(tables, Iterable) or _is_table(tables):
        raise _not_tables(tables)
    check_row_count(rows)
    window = window_for(response_format, prompt, {**options}, rows, "parse_batches")
    return _frames(answered(window, cut(tables, rows), caller()))


@shows(taken_by(Options, "parse"))
def aparse_batches(
    tables: Iterable[Any] | AsyncIterable[Any],
    response_format: Any = NOT_GIVEN,
    prompt: str | None = None,
    *,
    rows: int = _ROWS,
    **options: Unpack[ParseOptions],
) -> AsyncGenerator[Any, None]:
    """Run `parse_batches` in `async for`, without blocking the notebook's event loop. Cancelling stops it.

    Args:
        tables: As for `parse_batches`, or an async iterable. It is read in a thread, one table at a time.
        response_format: As for `df.llm.parse`.
        prompt: As for `df.llm.parse`.
        rows: Maximum rows of one run.
        **options: As for `df.llm.parse`.
    """
    if not isinstance(tables, Iterable | AsyncIterable) or _is_table(tables):
        raise _not_tables(tables)
    check_row_count(rows)
    window = window_for(response_format, prompt, {**options}, rows, "aparse_batches")
    return _async_frames(window, _AsyncPieces(tables, rows), caller())


def window_for(
    response_format: Any, prompt: str | None, options: dict[str, Any], rows: int, where: str, *, written: bool = True
) -> TableWindow:
    """Build a window for the runs of some tables. Options and type are checked before anything is read or sent.

    Args:
        response_format: As for `df.llm.parse`.
        prompt: As for `df.llm.parse`.
        options: The caller's options. `progress` applies to the whole stream.
        rows: Minimum number of rows to have in progress.
        where: Name of the function, for errors.
        written: Whether the options come from this call rather than an earlier one.

    Raises:
        UsageError: If the options or the type are invalid. Nothing was sent.
    """
    kind = format_of(response_format, options, where)
    resolved = options_for(options)
    refuse_in_pieces(resolved)
    if resolved.mode == "batch" and resolved.wait is False:
        raise UsageError(f"{where} yields answers, so it must wait for them: leave wait= out. Nothing was sent.")
    output = output_of(kind, resolved)
    if written:
        refuse_unread(options, resolved)
        check_column(ResultColumns(output, resolved), resolved, options.get("column"))
    given = options | {"progress": False}
    whole, run_budget = f"{where} {secrets.token_hex(4)}", RunBudget(resolved.max_cost_usd)

    def submit(data: Any) -> LiveRun:
        return submit_piece(accessor_of(data), kind, prompt, given, run_budget, whole=whole)

    progress = WindowProgress(bool(resolved.progress), "text" if output is None else output.name)
    return TableWindow(submit, rows, progress)


def cut(tables: Iterable[Any], rows: int) -> Iterator[TablePiece]:
    """Cut tables into pieces of at most *rows* rows, in order.

    Raises:
        UsageError: At an item that is not a table.
    """
    for at, data in enumerate(tables):
        table = table_of(data)
        if table is None:
            raise UsageError(
                f"Item {at} of the tables is {type(data).__name__}, not a DataFrame, a Series or an Arrow table."
            )
        if table.total <= rows:
            yield TablePiece("", data)
            continue
        for begin in range(0, table.total, rows):
            yield TablePiece("", table.slice(range(begin, min(begin + rows, table.total))).data)


def answered(window: TableWindow, pieces: Iterator[TablePiece], called_by: Caller) -> Generator[Answered, None, None]:
    """Yield the pieces with their runs in order, each once its run has ended. Closing early stops all runs."""
    started = map(window.start, pieces)
    try:
        window.fill(started)
        while (run := window.head) is not None:
            while not run.done():
                run.wait(_TICK_S)
                window.fill(started)
            del run
            yield window.take()
            window.fill(started)
        window.finish(called_by)
    finally:
        for going in window.abandon():
            going.wait(_GRACE_S)


def _frames(each: Generator[Answered, None, None]) -> Generator[Any, None, None]:
    with closing(each):
        while (one := next(each, None)) is not None:
            frame, one = one.run.to_frame(), None
            yield frame
            del frame


async def _async_frames(window: TableWindow, source: _AsyncPieces, called_by: Caller) -> AsyncGenerator[Any, None]:
    ended: asyncio.Future[None] | None = None
    try:
        await source.fill(window)
        while (run := window.head) is not None:
            ended = asyncio.ensure_future(run.until_ended())
            while not ended.done():
                await asyncio.wait([ended], timeout=_TICK_S)
                await source.fill(window)
            await ended
            del run
            yield window.take().run.to_frame()
            await source.fill(window)
        window.finish(called_by)
    finally:
        waits: list[asyncio.Future[None]] = [asyncio.ensure_future(run.until_ended()) for run in window.abandon()]
        if ended is not None:
            waits.append(ended)
        if waits:
            await asyncio.wait(waits, timeout=_GRACE_S)


class _AsyncPieces:
    """Pieces of tables, read without blocking the caller's event loop."""

    def __init__(self, tables: Iterable[Any] | AsyncIterable[Any], rows: int) -> None:
        self._rows = rows
        self._tables = aiter(tables) if isinstance(tables, AsyncIterable) else None
        self._pieces = iter(()) if isinstance(tables, AsyncIterable) else cut(tables, rows)

    async def fill(self, window: TableWindow) -> None:
        """Start as many pieces as are currently wanted."""
        while window.wants_more:
            with window.reading():
                piece = await self._next()
                window.add(None if piece is None else window.start(piece))
        window.show()

    async def _next(self) -> TablePiece | None:
        # Read in a thread, because a source may read a file or wait for a database.
        piece = await asyncio.to_thread(next, self._pieces, None)
        while piece is None and self._tables is not None:
            try:
                table = await anext(self._tables)
            except StopAsyncIteration:
                return None
            self._pieces = cut([table], self._rows)
            piece = next(self._pieces, None)
        return piece


def _is_table(tables: Any) -> bool:
    # An Arrow reader is both an iterator and a table: as an iterator it yields batches, as a table it is read whole.
    return not isinstance(tables, Iterator) and table_of(tables) is not None


def _not_tables(tables: Any) -> UsageError:
    return UsageError(
        f"parse_batches takes an iterable of tables, not one {type(tables).__name__}. Put it into a list, or use "
        f"df.llm.parse. Nothing was sent."
    )
