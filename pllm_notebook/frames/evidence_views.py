"""The evidence that `.llm` reports for answers: the quote for each field, and its place in the row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.cell_text import as_text
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import LiveRun
from pllm_notebook.formatting import strip_control_chars
from pllm_notebook.frames.dtypes import CellType
from pllm_notebook.frames.provenance import provenance_of
from pllm_notebook.frames.quotations import find_quote
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.table import Table
from pllm_notebook.schema import QuotingSchema
from pllm_notebook.store import open_store

__all__ = ["Quotation", "evidence", "evidence_lines", "marked_pieces", "quotations_of_row"]

_COLUMNS = {
    "row": CellType.COUNT,
    "field": CellType.TEXT,
    "quote": CellType.TEXT,
    "start": CellType.INTEGER,
    "end": CellType.INTEGER,
    "column": CellType.TEXT,
    "verified": CellType.BOOLEAN,
}


class Quotation(NamedTuple):
    """The quote of a reply for one field of one row.

    Attributes:
        field: Name of the result column.
        quote: The quote as the model wrote it, None without one.
        column: Name of the column that contains it, None if no column does.
        start: Position of its first character in the column's text, None if no column contains it.
        end: Position after its last character, None if no column contains it.
    """

    field: str
    quote: str | None
    column: str | None = None
    start: int | None = None
    end: int | None = None


def evidence(table: Table) -> Any:
    """Return a line for each answered row and field (see `df.llm.evidence`)."""
    records = [
        {
            "row": position,
            "field": each.field,
            "quote": each.quote,
            "start": each.start,
            "end": each.end,
            "column": each.column,
            "verified": each.column is not None,
        }
        for position, quotations in _quotations(table)
        for each in quotations
    ]
    return table.frame_library.report(_COLUMNS, records)


def evidence_lines(
    run: LiveRun | RegisteredRun, row: int, table: Table, asked: Sequence[str], at: int
) -> tuple[str, ...]:
    """Return a row's evidence as lines of text, for `explain`; () if its run did not ask for evidence.

    Args:
        run: The run that answered the row.
        row: Position of the row in the run.
        table: The table that has the row.
        asked: Names of the columns that the run's question used.
        at: Position of the row in the table.
    """
    return tuple(map(_line, quotations_of_row(run, row, table, asked, at)))


def quotations_of_row(
    run: LiveRun | RegisteredRun, row: int, table: Table, asked: Sequence[str], at: int
) -> Sequence[Quotation]:
    """Return the quotes of a row's answer; () if its run did not ask for evidence (see `evidence_lines`)."""
    return _of_run(run, [row], table, asked, [at]).get(at, ()) if _asked_for_evidence(run) else ()


def marked_pieces(text: str, quotations: Sequence[Quotation], *, most: int, around: int) -> list[list[str]]:
    """Return a cell's text in pieces, each with the names of the fields that quote it, "" for none.

    Args:
        text: The cell's text.
        quotations: The quotes in this cell.
        most: Maximum length of a text that is returned whole, in characters. In a longer text, pieces without a quote
            are shortened.
        around: Number of characters that are kept at each end of a shortened piece.
    """
    edges = sorted({edge for each in quotations for edge in (each.start or 0, each.end or 0)})
    pieces = []
    for start, end in pairwise([0, *edges, len(text)]):
        fields = [each.field for each in quotations if (each.start or 0) <= start and end <= (each.end or 0)]
        piece = strip_control_chars(text[start:end])
        if not fields and len(text) > most and len(piece) > 2 * around:
            piece = f"{piece[:around]} … {piece[-around:]}"
        if piece:
            pieces.append([piece, ", ".join(fields)])
    return pieces


def _line(each: Quotation) -> str:
    if each.quote is None:
        return f"{each.field}: no quote"
    if each.column is None:
        return f"{each.field}: {each.quote!r}, which is not in the row"
    return f"{each.field}: {each.quote!r} in {each.column}, characters {each.start:,} to {each.end:,}"


def _quotations(table: Table) -> Iterator[tuple[int, list[Quotation]]]:
    """Yield the position of each answered row, and the quotes for its fields.

    Raises:
        PllmError: If a run of the frame did not ask for evidence.
    """
    found = provenance_of(table)
    by_row: dict[int, list[Quotation]] = {}
    for at, source in enumerate(found.sources):
        if not _asked_for_evidence(source.run):
            raise PllmError("This run has no evidence. It needs evidence=True.")
        positions = np.flatnonzero(found.source == at).tolist()
        by_row |= _of_run(source.run, found.row[positions].tolist(), table, source.asked, positions)
    yield from sorted(by_row.items())


def _of_run(
    run: LiveRun | RegisteredRun, rows: Sequence[int], table: Table, asked: Sequence[str], positions: Sequence[int]
) -> dict[int, list[Quotation]]:
    """Return the quotes for some rows of a run, by the rows' positions in *table*."""
    data = table.column_data(asked)
    texts = list(zip(data.names, data.values, data.missing, strict=True))
    quotes, fields = _quotes(run, rows), _fields(run)
    return {
        position: [_located(field, quotes[row].get(name), texts, position) for name, field in fields]
        for position, row in zip(positions, rows, strict=True)
        if row in quotes
    }


def _asked_for_evidence(run: LiveRun | RegisteredRun) -> bool:
    if isinstance(run, LiveRun):
        return isinstance(run.spec.fitted, QuotingSchema)
    return bool(run.header["shaping"].get("evidence"))


def _quotes(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> dict[int, Mapping[str, str | None]]:
    """Return the quotes in the replies to some rows, by row; no entry for a row without an answer in the cache."""
    if isinstance(run, RegisteredRun):
        return {} if run.record is None else run.read_answers().quotes_of(list(dict.fromkeys(rows)))
    fitted, made = run.spec.fitted, getattr(run.rows, "evidence", None)
    assert isinstance(fitted, QuotingSchema)
    outcomes = {row: run.table.outcome(row) for row in dict.fromkeys(rows)}
    own = {row: one for row, one in outcomes.items() if one is not None and one.failure is None}
    second = {} if made is None else {row: made.second[one.key] for row, one in own.items() if one.key in made.second}
    keys = {row: one.last or one.key for row, one in own.items()}
    entries = open_store().get_many(list(dict.fromkeys([*keys.values(), *(each.before for each in second.values())])))
    found: dict[int, Mapping[str, str | None]] = {}
    for row, key in keys.items():
        text: bytes | None = entries[key].text if key in entries else None
        if text is not None and row in second:
            before = entries.get(second[row].before)
            text = None if before is None else fitted.combined(before.text, text, second[row].fields)
        if text is not None:
            found[row] = fitted.quotes(text)
    return found


def _fields(run: LiveRun | RegisteredRun) -> list[tuple[str, str]]:
    """Return the name of each field in a reply and the name of its column."""
    if isinstance(run, LiveRun):
        output, options, names = run.spec.output, run.spec.options, None
        prefix, column = options.prefix, options.column
    else:
        output, names = run.read_answers().output, run.header["field_names"]
        prefix, column = run.header["shaping"]["prefix"], run.header["shaping"]["column"]
    if output is None or output.fields is None:
        return [("answer", prefix + column)]
    shown = names or [field.name for field in output.fields]
    return [(field.alias, prefix + name) for field, name in zip(output.fields, shown, strict=True)]


def _located(
    field: str, quote: str | None, texts: Sequence[tuple[str, Sequence[Any], Sequence[bool]]], position: int
) -> Quotation:
    if quote is not None:
        for name, values, missing in texts:
            span = None if missing[position] else find_quote(quote, as_text(values[position]))
            if span is not None:
                return Quotation(field, quote, name, span.start, span.end)
    return Quotation(field, quote)
