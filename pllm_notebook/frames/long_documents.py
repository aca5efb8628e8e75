"""Long documents: rows of pieces that fit into a prompt, and one answer per document from the answers to its pieces."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pllm_notebook.exceptions import MissingPackageError, NameClashError, UsageError
from pllm_notebook.execution import LiveRun, RunWait, Steps, StepsDisplay
from pllm_notebook.formatting import counted
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.plain_data import as_json_text
from pllm_notebook.frames.table import Table
from pllm_notebook.options import is_number
from pllm_notebook.providers import BYTES_PER_TOKEN

__all__ = ["Reduction", "Step", "chunk_rows", "token_count"]

DOCUMENT, CHUNK = "document", "chunk"
"""The columns that `chunk_rows` adds."""

_BETWEEN = "\n\n"


def chunk_rows(table: Table, name: str, *, tokens: int, overlap: int, prefix: str) -> Any:
    """Return a frame with one row per piece of a text (see `FrameAccessor.chunks`)."""
    split = _splitter(tokens, overlap)
    if not isinstance(prefix, str):
        raise UsageError(f"prefix is text, not {prefix!r}.")
    made = (prefix + DOCUMENT, prefix + CHUNK)
    if clash := [column for column in made if column in table.names]:
        raise NameClashError(clash)
    cells = table.column_data([name])
    pieces: list[str | None] = []
    origin: list[int] = []
    numbers: list[int] = []
    for row, (text, missing) in enumerate(zip(cells.values[0], cells.missing[0], strict=True)):
        if not missing and not isinstance(text, str):
            raise UsageError(f"chunks cuts text, and row {row} of {name!r} is {type(text).__name__}: {text!r:.60}.")
        found = [None] if missing else split(text) or [text]
        pieces += found
        origin += [row] * len(found)
        numbers += range(len(found))
    array = table.frame_library.array
    columns = {
        name: array(Column(name, Kind.TEXT), pieces),
        made[0]: array(Column(made[0], Kind.INTEGER), list(origin)),
        made[1]: array(Column(made[1], Kind.INTEGER), numbers),
    }
    return table.join(columns, origin, [name], explode=True, run_id=None)


def token_count(text: str) -> int:
    """Estimate the tokens of a text as one per four bytes, like all estimates made before a provider counts."""
    return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)


def _splitter(tokens: int, overlap: int) -> Callable[[str], list[str]]:
    for name, value, least in (("tokens", tokens, 1), ("overlap", overlap, 0)):
        if not is_number(value, whole=True) or not least <= value < 2**63:
            raise UsageError(f"{name} is a whole number of at least {least}, not {value!r}.")
    if overlap >= tokens:
        raise UsageError(f"overlap is less than tokens; {overlap} is not less than {tokens}.")
    try:
        from semantic_text_splitter import TextSplitter
    except ImportError:
        raise MissingPackageError("df.llm.chunks", "semantic-text-splitter", "documents") from None
    split: Callable[[str], list[str]] = TextSplitter.from_callback(token_count, tokens, overlap).chunks
    return split


@dataclass(slots=True)
class _Document:
    """One document: its key, its rows, the parts still to combine, and whether a part has no answer."""

    key: tuple[Hashable, ...]
    rows: list[int] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    broken: bool = False


class Step(Enum):
    """The kinds of steps of a reduction: the only one, one before the last, or the last of several."""

    ONLY = "only"
    BEFORE = "before"
    LAST = "last"


class Reduction:
    """The combination of each document's parts with one prompt, in as many steps as their length requires.

    A step combines consecutive parts that fit into one call, and its answers are the parts of the next step. The last
    step makes one call per document. A document with a part without an answer is not sent: its row has NA, since an
    answer from the rest would look complete.

    Args:
        table: The rows, in order.
        by: The columns that identify a document.
        part: The column whose values are combined.
        tokens: Maximum tokens of the parts in one call.
        submit: Starts the run of one step, given its rows and the kind of step.
        display: The display of all steps, if there are several.

    Attributes:
        display: As given.
        broken: Number of documents with a part without an answer.
        failed_runs: Ids of the runs before the last step in which a part failed.
    """

    def __init__(
        self,
        table: Table,
        by: Sequence[str],
        part: str,
        *,
        tokens: int,
        submit: Callable[[Any, Step], LiveRun],
        display: StepsDisplay,
    ) -> None:
        self._table, self._by, self._part, self._tokens = table, list(by), part, tokens
        self._submit = submit
        self.display = display
        self._documents = self._grouped()
        self.broken = 0
        self.failed_runs: list[str] = []

    def steps(self) -> Steps[Any]:
        """Wait for the run of each step and return the frame of the last.

        Raises:
            UsageError: If no two parts of a document fit into one call.
        """
        last = Step.ONLY
        while True:
            fitted = [self._fitting(one) for one in self._documents]
            if all(len(groups) == 1 for groups in fitted):
                self.broken = sum(one.broken for one in self._documents)
                lines = list(zip(self._documents, (groups[0] for groups in fitted), strict=True))
                run = self._submit(self._frame(lines), last)
                yield RunWait(run)
                return run.result()
            # A part that is alone in its group goes to the next step unchanged: a call could only lose information.
            asked = [
                (one, group)
                for one, groups in zip(self._documents, fitted, strict=True)
                if len(groups) > 1 and not one.broken
                for group in groups
                if len(group) > 1
            ]
            run = self._submit(self._frame(asked), Step.BEFORE)
            yield RunWait(run)
            answers = iter(self._answers(run.result()))
            if run.progress().failed:
                self.failed_runs.append(run.id)
            last = Step.LAST
            for one, groups in zip(self._documents, fitted, strict=True):
                if len(groups) > 1 and not one.broken:
                    parts = [next(answers) if len(group) > 1 else group[0] for group in groups]
                    one.broken = None in parts
                    one.parts = [part for part in parts if part is not None]

    def _grouped(self) -> list[_Document]:
        keys = self._table.column_data(self._by)
        parts = self._table.column_data([self._part])
        found: dict[tuple[Hashable, ...], _Document] = {}
        for row in range(self._table.total):
            key = tuple(
                None if missing[row] else values[row] for values, missing in zip(keys.values, keys.missing, strict=True)
            )
            try:
                found.setdefault(key, _Document(key)).rows.append(row)
            except TypeError:
                raise UsageError(
                    f"by= names {self._by}, and row {row} has a list or dict there, which names no document. Give a "
                    f"column of text, numbers or dates. Nothing was sent."
                ) from None
        places = _places_of_pieces(self._table)
        for one in found.values():
            if places is not None:
                one.rows.sort(key=places.__getitem__)
            one.broken = any(parts.missing[0][row] for row in one.rows)
            one.parts = [_text(parts.values[0][row]) for row in one.rows if not parts.missing[0][row]]
        return list(found.values())

    def _fitting(self, one: _Document) -> list[list[str]]:
        """Split the parts into groups of consecutive ones that fit into a call; without parts, one empty group."""
        groups: list[list[str]] = [[]]
        size = 0
        for part in () if one.broken else one.parts:
            count = token_count(part) + 1
            if groups[-1] and size + count > self._tokens:
                groups.append([])
                size = 0
            groups[-1].append(part)
            size += count
        if len(groups) > 1 and all(len(group) == 1 for group in groups):
            raise UsageError(
                f"No two parts of {self._part!r} fit into {self._tokens:,} tokens together, so nothing can be "
                f"combined. Raise tokens=, or ask for shorter answers. What was answered so far is kept."
            )
        return groups

    def _frame(self, groups: Sequence[tuple[_Document, list[str]]]) -> Any:
        first = [one.rows[0] for one, _ in groups]
        columns: dict[str, Any] = {name: self._table.column_of(name, first) for name in self._by}
        texts = [None if one.broken or not group else _BETWEEN.join(group) for one, group in groups]
        library = self._table.frame_library
        return library.columns_frame({**columns, self._part: library.array(Column(self._part, Kind.TEXT), texts)})

    def _answers(self, frame: Any) -> list[str | None]:
        """Return the answer of each line as text: the value of the one new column, or the new columns as JSON."""
        table = self._table.frame_library.table(frame)
        assert table is not None
        made = [name for name in table.names if name not in (*self._by, self._part)]
        cells = table.column_data(made)
        lines: list[str | None] = []
        for row in range(table.total):
            values = [None if gap[row] else own[row] for own, gap in zip(cells.values, cells.missing, strict=True)]
            if all(value is None for value in values):
                lines.append(None)
            else:
                lines.append(_text(values[0] if len(made) == 1 else dict(zip(made, values, strict=True))))
        return lines


def _places_of_pieces(table: Table) -> list[tuple[int, int]] | None:
    """Return each row's document, numbered in order of first appearance, and the number of its piece there.

    None if the rows are not pieces (see `chunk_rows`).

    Raises:
        UsageError: If a piece before another one is missing. Missing last pieces cannot be detected.
    """
    pair = next(
        ((name.removesuffix(CHUNK) + DOCUMENT, name) for name in table.names
         if name.endswith(CHUNK) and name.removesuffix(CHUNK) + DOCUMENT in table.names),
        None,
    )  # fmt: skip
    if pair is None:
        return None
    cells = table.column_data(pair)
    documents, numbers = ([*map(_as_whole, own, gaps)] for own, gaps in zip(cells.values, cells.missing, strict=True))
    held: dict[int, set[int]] = {}
    for document, number in zip(documents, numbers, strict=True):
        if document is None or number is None or number < 0:
            return None
        held.setdefault(document, set()).add(number)
    lacking = {document: max(own) + 1 - len(own) for document, own in held.items() if len(own) <= max(own)}
    if lacking:
        document = next(iter(lacking))
        first = next(number for number in range(max(held[document])) if number not in held[document])
        others = f", and {counted(len(lacking) - 1, 'other document')} some" if len(lacking) > 1 else ""
        raise UsageError(
            f"Document {document} lacks its piece {first}{others}: an answer from the rest would look whole. Keep all "
            f"rows of chunks, those without an answer too; or drop the column {pair[1]!r} to combine what is left. "
            f"Nothing was sent."
        )
    order = {document: at for at, document in enumerate(held)}
    return [(order[document], number) for document, number in zip(documents, numbers, strict=True)]  # type: ignore[index,misc]


def _as_whole(value: Any, missing: bool) -> int | None:
    """Return a cell as a whole number, None if it is not one. After a join, whole numbers may be floats."""
    if missing or not is_number(value) or value != int(value):
        return None
    return int(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else as_json_text(value) or ""
