"""`out.llm.review`: review answers one by one, accepting or correcting each. Every decision becomes a label at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from pllm_notebook.cell_text import as_text
from pllm_notebook.display_registry import show_in_cell
from pllm_notebook.exceptions import PllmError, UsageError, guess
from pllm_notebook.frames.evidence_views import Quotation, marked_pieces, quotations_of_row
from pllm_notebook.frames.label_values import choices_of, field_schema, value_of, value_text
from pllm_notebook.frames.plain_data import plain_data
from pllm_notebook.frames.probabilities import probabilities_of
from pllm_notebook.frames.stored_labels import LabelNote, label_cells, labeller, stored_labels
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import AnswerSide, frame_side, question_of
from pllm_notebook.lab.review_html import review_html
from pllm_notebook.lab.review_queue import DrawnRow, ReviewOrder, drawn_rows
from pllm_notebook.options import is_number
from pllm_notebook.store import LabelFile, current_directory

__all__ = ["Review", "ReviewItem", "review_table"]


# A longer cell is shown in full, unless the answer quotes from it: then only the text around the quotes is shown.
_MOST_CHARS, _AROUND = 8_000, 300


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One field of one row to review.

    Attributes:
        row: The row, and how it was drawn.
        field: The field's name without a run's prefix.
        proposed: The answer, as JSON data.
    """

    row: DrawnRow
    field: str
    proposed: Any


class Review:
    """A review of answers, one by one. Each decision is stored before the next item is shown.

    In a notebook it is a view with keyboard shortcuts; elsewhere `ask()` asks line by line. Repeating the call resumes
    the review: items that the same person has labelled are not shown again.

    Args:
        table: The frame.
        side: Its answers.
        items: The items to review, in order.
        by: Name of the reviewer.

    Attributes:
        items: The items to review, in order.
        by: Name of the reviewer.
        at: Index of the current item; the number of items when all are done.
        labels: Maps each decided item to its label. None for a skipped item.
        notes: Maps items to the notes that are stored with their labels.
    """

    def __init__(self, table: Table, side: AnswerSide, items: Sequence[ReviewItem], by: str) -> None:
        self._table, self._side = table, side
        self.items, self.by = list(items), by
        self.labels: dict[int, Any] = {}
        self.notes: dict[int, str] = {}
        self._skipped: set[int] = set()
        self.note = ""
        self._undoing: list[tuple[int, list[int]]] = []
        self._data = table.column_data(side.source.asked)
        for field in dict.fromkeys(item.field for item in self.items):
            known = stored_labels(table, field, by)
            for at, item in enumerate(self.items):
                label = known[item.row.position]
                if item.field == field and label is not None:
                    self.labels[at] = label.value
                    self.notes[at] = label.note or ""
        self.at = self._next(0)

    def __len__(self) -> int:
        return len(self.items)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Decisions are stored in the cache directory: each of two copies would show items decided in the other.
        return self

    def __reduce__(self) -> NoReturn:
        raise PllmError(
            "A review cannot be pickled: it decides about the answers of this process. Its labels are stored; "
            "out.llm.review(…) with the same arguments goes on where it stopped."
        )

    def __repr__(self) -> str:
        done = len(self.labels) - len(self._skipped)
        left = "; .ask() goes on in a terminal" if self.at < len(self.items) else ". All are done"
        mark = ", SIMULATED" if self.is_simulated else ""
        return f"<Review by {self.by!r}{mark}: {done:,} of {len(self.items):,} labelled{left}.>"

    def _repr_html_(self) -> str:
        return review_html(self.by, len(self.items), self.decisions(), simulated=self.is_simulated)

    def _ipython_display_(self) -> None:
        """Show the view with keyboard shortcuts in a notebook with widgets; elsewhere the decisions so far."""
        if not show_in_cell("review", self):
            raise NotImplementedError  # makes IPython fall back to another representation

    def accept(self, at: int | None = None) -> None:
        """Store the proposed value as right and move to the next item."""
        here = self._here(at)
        if here is not None:
            self._store(here, self.items[here].proposed)

    def choose(self, value: Any, at: int | None = None) -> None:
        """Store another value as right and move to the next item.

        Args:
            value: A value of the field's type, or its text.
            at: Index of the item that was shown. A late key press for a decided item does nothing.

        Raises:
            UsageError: If the field cannot have this value. Nothing was stored.
        """
        here = self._here(at)
        if here is not None:
            field = self.items[here].field
            schema = field_schema(question_of(self._side.source)["schema"], field)
            self._store(here, value_of(self._side.columns[field], value, schema))

    def skip(self, at: int | None = None) -> None:
        """Move to the next item without a label."""
        here = self._here(at)
        if here is not None:
            self._undoing.append((here, []))
            self.labels[here] = None
            self._skipped.add(here)
            self._go_on(here)

    def undo(self) -> None:
        """Undo the last decision of this review and show its item again."""
        if self._undoing:
            here, ids = self._undoing.pop()
            LabelFile(current_directory()).remove(ids)
            self.labels.pop(here, None)
            self._skipped.discard(here)
            self.at = here

    def set_note(self, text: str) -> None:
        """Set the note for the current item. It is stored with its label."""
        self.note = text

    def state(self) -> dict[str, Any]:
        """Return the contents of the view, as plain data."""
        done = self.at >= len(self.items)
        made: dict[str, Any] = {
            "at": self.at,
            "total": len(self.items),
            "labelled": len(self.labels) - len(self._skipped),
            "by": self.by,
            "done": done,
            "can_undo": bool(self._undoing),
            "simulated": self.is_simulated,
            "note": self.note,
        }
        if done:
            return made
        item = self.items[self.at]
        column, row = self._side.columns[item.field], item.row.position
        quotations = self._quotations(item)
        return made | {
            "row": [
                [name, text, [] if text == "" else _marked(name, cell, quotations)]
                for name, text, cell in self._cells(row)
            ],
            "lost": [each.quote for each in quotations if each.quote is not None and each.column is None],
            "label": str(self._table.label(row)),
            "field": item.field,
            "proposed": value_text(item.proposed),
            "others": [
                [name, value_text(plain_data(values[row]))]
                for name, values in self._side.values.items()
                if name != item.field
            ],
            "choices": [value_text(choice) for choice in choices_of(column)],
            "kind": str(column.kind),
            "confidence": self._confidence(item),
        }

    @property
    def is_simulated(self) -> bool:
        """Whether the reviewed answers are simulated."""
        return self._side.is_simulated

    def decisions(self) -> list[dict[str, Any]]:
        """Return the decisions as plain data, the last item first.

        Each has the keys name (of the row), row (column and text), field, proposed, label, right, skipped and note.
        """
        return [
            {
                "name": str(self._table.label(item.row.position)),
                "row": [[name, text] for name, text, _ in self._cells(item.row.position)],
                "field": item.field,
                "proposed": value_text(item.proposed),
                "label": value_text(self.labels[at]),
                "right": self.labels[at] == item.proposed,
                "skipped": at in self._skipped,
                "note": self.notes.get(at, ""),
            }
            for at, item in reversed(list(enumerate(self.items)))
            if at in self.labels
        ]

    def ask(self, read: Any = input, show: Any = print) -> None:
        """Ask line by line in a terminal, until all items are done or the input is "q".

        Args:
            read: Shows a prompt and returns a line of input.
            show: Shows a text.
        """
        while self.at < len(self.items):
            state = self.state()
            show("\n".join(_lines(state)))
            line = read("Enter accepts; a number or value corrects; s skips, u undoes, n TEXT notes, q ends: ").strip()
            if line == "q":
                break
            try:
                self._do(line, state)
            except UsageError as error:
                show(str(error))
        show(repr(self))

    def _cells(self, row: int) -> list[tuple[str, str, Any]]:
        """Return the name, text ("" for a missing value) and value of each cell used in the question."""
        columns = zip(self._data.names, self._data.values, self._data.missing, strict=True)
        return [(name, "" if gaps[row] else str(own[row]), own[row]) for name, own, gaps in columns]

    def _quotations(self, item: ReviewItem) -> Sequence[Quotation]:
        """Return the answer's quotations for the item's field. Empty if none were requested."""
        source, position = self._side.source, item.row.position
        row, column = int(self._side.row[position]), self._side.columns[item.field].name
        found = () if row < 0 else quotations_of_row(source.run, row, self._table, source.asked, position)
        return [each for each in found if each.field == column]

    def _confidence(self, item: ReviewItem) -> float | None:
        """Return the confidence of the item's value, or else the row's lowest. None if unknown."""
        row = int(self._side.row[item.row.position])
        if item.row.confidence is None or row < 0:
            return item.row.confidence
        try:
            known = probabilities_of(self._side.source.run, [row]).confidence
        except PllmError:  # the row's replies are no longer stored
            return item.row.confidence
        p = known.get(self._side.columns[item.field].name)
        return item.row.confidence if p is None or p[0] != p[0] else float(p[0])

    def _do(self, line: str, state: dict[str, Any]) -> None:
        choices = state["choices"]
        if not line:
            self.accept()
        elif line in ("s", "u") and line not in choices:
            self.skip() if line == "s" else self.undo()
        elif line.startswith("n ") and line not in choices:
            self.set_note(line[2:])
        elif line.isdigit() and line not in choices and 0 < int(line) <= len(choices):
            self.choose(choices[int(line) - 1])
        else:
            self.choose(line)

    def _here(self, at: int | None) -> int | None:
        """Return the item that a decision is for, or None if it has already been decided."""
        here = self.at if at is None else at
        return here if here == self.at and here < len(self.items) else None

    def _store(self, here: int, value: Any) -> None:
        item, run = self.items[here], self._side.source.run
        row = item.row.position
        note = LabelNote(self.by, item.row.drawn_by, item.row.pi, self.note or None, run.id)
        cells = [None if gaps[row] else own[row]
                 for own, gaps in zip(self._data.values, self._data.missing, strict=True)]  # fmt: skip
        self._undoing.append((here, label_cells(self._data.names, cells, {item.field: value}, note)))
        self.labels[here], self.notes[here] = value, self.note
        self._go_on(here)

    def _go_on(self, here: int) -> None:
        self.note = ""
        self.at = self._next(here + 1)

    def _next(self, start: int) -> int:
        return next((at for at in range(start, len(self.items)) if at not in self.labels), len(self.items))


def review_table(
    table: Table,
    fields: Sequence[str] | None,
    order: ReviewOrder,
    n: int,
    random_share: float,
    old: Any,
    by: str | None,
) -> Review:
    """Return a review of a frame's answers (see `df.llm.review`)."""
    if not is_number(n, whole=True) or n < 1:
        raise UsageError(f"n is a whole number of rows, at least 1, not {n!r}.")
    if not is_number(random_share) or not 0 <= random_share <= 1:
        raise UsageError(f"random_share is a share from 0 to 1, not {random_share!r}.")
    who = labeller(by)
    if old is not None and order != "changed":
        raise UsageError(f"old= is what order='changed' compares with, and order is {order!r}. Leave one of them out.")
    side = frame_side(table)
    known = list(side.columns)
    chosen = _chosen(known, fields, side)
    rows = drawn_rows(table, side, order, n, random_share, old)
    items = [ReviewItem(row, field, plain_data(side.values[field][row.position])) for row in rows for field in chosen]
    return Review(table, side, items, who)


def _chosen(known: Sequence[str], fields: Sequence[str] | None, side: AnswerSide) -> list[str]:
    if fields is None:
        listed = [name for name in known if choices_of(side.columns[name])]
        return listed or list(known)
    given = [fields] if isinstance(fields, str) else fields
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(name, str) for name in given):
        raise UsageError(f"fields= is one name, or a list of some of {list(known)}, not {fields!r}.")
    for name in given:
        if name not in known:
            raise UsageError(f"There is no field {name!r} among {list(known)}.{guess(name, list(known))}")
    return list(dict.fromkeys(given))


def _marked(name: str, cell: Any, quotations: Sequence[Quotation]) -> list[list[str]]:
    """Return the pieces of a cell that the answer quotes from, each with the field that quotes it."""
    own = [each for each in quotations if each.column == name]
    return marked_pieces(as_text(cell), own, most=_MOST_CHARS, around=_AROUND) if own else []


def _lines(state: dict[str, Any]) -> list[str]:
    sure = "" if state["confidence"] is None else f" (confidence {state['confidence']:.2f})"
    lines = [f"\n{state['at'] + 1} of {state['total']}{' SIMULATED' if state['simulated'] else ''}"]
    lines += [f"  {name}: {text}" for name, text, *_ in [*state["row"], *state["others"]]]
    lines += [f"  quoted from {name}: {piece}" for name, _, pieces in state["row"] for piece, field in pieces if field]
    lines += [f"  quoted, and not in the row: {quote}" for quote in state["lost"]]
    lines.append(f"{state['field']}: {state['proposed']}{sure}")
    if state["choices"]:
        lines.append("  " + ", ".join(f"{at} {choice}" for at, choice in enumerate(state["choices"], 1)))
    return lines
