"""The result of `df.llm.compare`: two sides row by row, as figures, frame, text, HTML and plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.execution import STATUSES
from pllm_notebook.formatting import counted, format_usd_or
from pllm_notebook.frames.dtypes import CellType, Column, Kind
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import CHANGED_BY_HAND, AnswerSide, question_of, served_of
from pllm_notebook.lab.comparison_plot import plot_churn, plot_field
from pllm_notebook.lab.comparison_view import ComparisonView, RowsOfMove
from pllm_notebook.lab.field_changes import FieldChange, FieldValues
from pllm_notebook.lab.labelled_change import LabelledChange
from pllm_notebook.lab.question_diff import WordChange, option_diff, schema_diff, word_diff
from pllm_notebook.lab.run_costs import RunCosts, costs_of
from pllm_notebook.prices import is_deprecated
from pllm_notebook.statistics import new_axes

__all__ = ["ComparedRows", "Comparison"]

Numbers = np.ndarray[Any, np.dtype[Any]]

_EXAMPLES, _SHOWN_MOVES = 20, 12
"""Rows that a notebook shows for each direction of change, and the number of directions shown with rows."""


@dataclass
class ComparedRows:
    """The rows that both sides have, a line each, in the order of the new frame.

    Attributes:
        old: The old side.
        new: The new side.
        line: The row of the new frame for each line, shape (n,).
        other: The line of the old side for each line.
        question: A number for each line, equal for equal rows.
        answered: Whether each line has an answer, on the old and on the new side.
        only_new: Number of rows that only the new frame has.
        only_old: Number of lines that only the old side has.
    """

    old: AnswerSide
    new: AnswerSide
    line: Numbers
    other: Numbers
    question: Numbers
    answered: tuple[Numbers, Numbers]
    only_new: int
    only_old: int


@dataclass(repr=False)
class Comparison:
    """The answers of two runs to the same rows. `pllm.compare` runs them first; `df.llm.compare` sends nothing.

    Attributes:
        table: The new frame.
        rows: The rows that both sides have.
        fields: The values of the fields that both sides have.
        changes: The change of each field.
        changed_lines: Whether each row differs in any field, or has an answer on only one side.
        labelled: Which side is right more often, None without labels.
        verdict: For each row 1 if it became right, -1 if it became wrong, otherwise 0.
        names: Names of both sides.
        cost_usd: US dollars paid to run the variants. None for an unknown price; 0.0 if nothing was sent. A call that
            several variants share is paid for and counted once.
    """

    table: Table
    rows: ComparedRows
    fields: Mapping[str, FieldValues]
    changes: Sequence[FieldChange]
    changed_lines: Numbers
    labelled: LabelledChange | None
    verdict: Numbers
    names: tuple[str, str]
    cost_usd: float | None = 0.0

    def __repr__(self) -> str:
        return self._view(examples=0).as_text()

    def _repr_html_(self) -> str:
        return self._view(examples=_EXAMPLES).as_html()

    def __len__(self) -> int:
        return int(self.changed_lines.sum())

    @property
    def changed(self) -> Any:
        """The rows that changed, a line each, in the order of the new frame (see `select`)."""
        return self.select()

    def select(self, field: str | None = None, old: Any = ..., new: Any = ..., *, verdict: str | None = None) -> Any:
        """Return the changed rows, side by side.

        Args:
            field: Only rows whose value of this field changed; None for any.
            old: Only rows that had this value; needs *field*. None is a missing value.
            new: Only rows that have this value now; needs *field*.
            verdict: With labels, "better" for rows that became right, "worse" for those that became wrong.

        Returns:
            A frame of the new frame's library: position and label in the new frame, the columns that its run was asked
            about, each field as `field_old` and `field_new`, changed (the changed fields, joined by ", "), and
            failure_old and failure_new (the kind, missing for none). With labels, also `verdict`.

        Raises:
            UsageError: For an unknown field or verdict, or a value that the type does not list.
        """
        at = np.flatnonzero(self._selected(field, old, new, verdict))
        return self._lines(at)

    @cached_property
    def by_field(self) -> Any:
        """A line for each field.

        Columns: field, compared, changed, churn, low, high, noise, noise_pairs, noise_from, kappa, p_shift (see
        `FieldChange`).
        """
        counts, texts = ("compared", "changed", "noise_pairs"), ("field", "noise_from")
        names = ("field", "compared", "changed", "churn", "low", "high", "noise", *counts[2:], *texts[1:], "kappa",
                 "p_shift")  # fmt: skip
        types = dict.fromkeys(names, CellType.REAL)
        types |= dict.fromkeys(counts, CellType.COUNT) | dict.fromkeys(texts, CellType.TEXT)
        lines = [{name: _known(getattr(one, name)) for name in names} for one in self.changes]
        return self.table.frame_library.report(types, lines)

    @cached_property
    def moves(self) -> Any:
        """A line for each direction of change: field, old, new (as text), rows; the most frequent first."""
        lines = [
            {"field": one.field, "old": _text(move.old), "new": _text(move.new), "rows": move.rows}
            for one in self.changes
            for move in one.moves
        ]
        types = {"field": CellType.TEXT, "old": CellType.TEXT, "new": CellType.TEXT, "rows": CellType.COUNT}
        return self.table.frame_library.report(types, lines)

    @cached_property
    def shift(self) -> Any:
        """A line for each value of the fields that have few: field, value (as text), and its count on both sides."""
        lines = [
            {"field": one.field, "value": _text(value), "old": old, "new": new}
            for one in self.changes
            for value, old, new in one.values
        ]
        types = {"field": CellType.TEXT, "value": CellType.TEXT, "old": CellType.COUNT, "new": CellType.COUNT}
        return self.table.frame_library.report(types, lines)

    @cached_property
    def costs(self) -> tuple[RunCosts, RunCosts]:
        """Cost, tokens and latency of the old and the new answers, as of when they were paid for."""
        return costs_of(self.rows.old, self.rows.other), costs_of(self.rows.new, self.rows.line)

    @cached_property
    def prompt_diff(self) -> list[WordChange]:
        """The differences between the prompts, system prompt first, as unchanged and changed pieces."""
        old, new = (self.asked(side) for side in (self.rows.old, self.rows.new))
        return word_diff(old, new)

    @cached_property
    def question_diff(self) -> list[tuple[str, str, str]]:
        """The other differences between the questions, as (what, old, new): model, parts of the schema, options."""
        old, new = (question_of(side.source) for side in (self.rows.old, self.rows.new))
        lines = [("model", str(old["model"]), str(new["model"]))] if old["model"] != new["model"] else []
        lines += [(f"schema {path}", was, becomes) for path, was, becomes in schema_diff(old["schema"], new["schema"])]
        return lines + option_diff(self.rows.old.source, self.rows.new.source)

    def asked(self, side: AnswerSide) -> str:
        """Return the system prompt and the prompt of a side, or the columns that it sent."""
        question = question_of(side.source)
        prompt = question["prompt"] or f"The columns {', '.join(side.source.asked)} as data."
        return "\n\n".join(text for text in (question["system"], prompt) if text)

    def plot(self, field: str | None = None, *, ax: Any = None) -> Any:
        """Plot the churn of each field with its interval and its noise, or both distributions of one field.

        Args:
            field: The field. None for the churn of all fields.
            ax: Axes to plot on (matplotlib), None for a new figure.

        Returns:
            The axes.

        Raises:
            UsageError: For a field that only one side or neither has, or a field with too many values.
            MissingPackageError: If matplotlib is not installed.
        """
        ax = new_axes("compare's plot") if ax is None else ax
        return plot_churn(self.changes, ax) if field is None else plot_field(self._change(field), self.names, ax)

    def _view(self, examples: int) -> ComparisonView:
        rows, (old, new) = self.rows, self.names
        sides = (rows.old, rows.new)
        return ComparisonView(
            title=f"{new}: run {sides[1].source.run.id}, beside {old}: run {sides[0].source.run.id}",
            counts=self._counts(),
            verdict=() if self.labelled is None else self.labelled.lines(),
            fields=[_FIELD_HEAD, *(_field_line(one) for one in self.changes)],
            moves=self._moves(examples),
            shifts=[("field", "value", old, new), *self._shift_lines()],
            costs=_cost_lines(self.names, self.costs),
            prompt=self.prompt_diff,
            question=self.question_diff,
            simulated=any(side.is_simulated for side in sides),
        )

    def _counts(self) -> list[str]:
        rows, (old, new) = self.rows, self.names
        total, questions = len(rows.line), int(rows.question.max()) + 1
        alike = "" if questions == total else f" ({questions:,} distinct ones)"
        lines = [
            (
                f"{len(self):,} of {counted(total, 'row')}{alike} changed: "
                f"{', '.join(f'{one.field} in {one.changed:,}' for one in self.changes)}."
            )
        ]
        unanswered = [int((~answered).sum()) for answered in rows.answered]
        if any(unanswered):
            lines.append(f"Without an answer: {unanswered[0]:,} rows of {old}, {unanswered[1]:,} of {new}. "
                         f"Rows that only one side answered count as changed, and in no field.")  # fmt: skip
        lines += [
            f"Left out: the column {column!r} is in the frame of {name} more than once."
            for name, side in ((old, rows.old), (new, rows.new))
            for column in side.twice
        ]
        left = [f"{count:,} rows of {name}" for count, name in ((rows.only_old, old), (rows.only_new, new)) if count]
        if left:
            lines.append(f"Not on the other side, and left out: {', '.join(left)}.")
        lines += [
            f"{model}, which answered {side}, is listed as deprecated by its provider (genai-prices): once it is "
            f"retired, its answers cannot be had again."
            for side, model in self._retiring().items()
        ]
        if self.cost_usd != 0:
            lines.append(f"Paid now: {format_usd_or(self.cost_usd, 'an unknown amount')} for both variants together.")
        return lines

    def _retiring(self) -> dict[str, str]:
        """Return the model of each side that its provider will retire."""
        found = {}
        for name, side in zip(self.names, (self.rows.old, self.rows.new), strict=True):
            model = str(question_of(side.source)["model"])
            if is_deprecated(model, served_of(side.source)):
                found[name] = model
        return found

    def _moves(self, examples: int) -> list[RowsOfMove]:
        found = sorted(((one.field, move) for one in self.changes for move in one.moves), key=lambda x: -x[1].rows)
        asked = self.rows.new.source.asked
        data = self.table.column_data(asked) if examples else None
        made = []
        for at, (field, move) in enumerate(found):
            lines = []
            if data is not None and at < _SHOWN_MOVES:
                chosen = np.flatnonzero(self._selected(field, move.old, move.new, None))[:examples]
                places = self.rows.line[chosen].tolist()
                lines = [[str(self.table.label(row)), *(str(cells[row]) for cells in data.values)] for row in places]
            label = f"{field}: {_shown(move.old)} → {_shown(move.new)}"
            made.append(RowsOfMove(label, move.rows, ("row", *asked), lines))
        return made

    def _shift_lines(self) -> list[tuple[str, str, str, str]]:
        return [
            (one.field, _shown(value), f"{old:,}", f"{new:,}") for one in self.changes for value, old, new in one.values
        ]

    def _change(self, field: str) -> FieldChange:
        found = next((one for one in self.changes if one.field == field), None)
        if found is None:
            names = [one.field for one in self.changes]
            raise UsageError(f"There is no field {field!r} on both sides; these are: {names}.{guess(field, names)}")
        return found

    def _selected(self, field: str | None, old: Any, new: Any, verdict: str | None) -> Numbers:
        chosen = self.changed_lines
        if verdict is not None:
            if verdict not in ("better", "worse") or self.labelled is None:
                raise UsageError(f"verdict is 'better' or 'worse', of a comparison with labels, not {verdict!r}.")
            chosen = chosen & (self.verdict == (1 if verdict == "better" else -1))
        if field is None:
            if old is not ... or new is not ...:
                raise UsageError("old= and new= are values of a field: pass field= with its name.")
            return chosen
        self._change(field)
        return chosen & self.fields[field].moved(old, new)

    def _lines(self, at: Numbers) -> Any:
        library, lines, rows = self.table.frame_library, at.tolist(), self.rows
        place = rows.line[at].tolist()
        taken: dict[str, Any] = {"position": place, "label": [self.table.label(row) for row in place]}
        for name in rows.new.source.asked:
            taken[_free(name, taken)] = self.table.column_of(name, place)
        for field, one in self.fields.items():
            for side, cells in (("old", one.old), ("new", one.new)):
                name = _free(f"{field}_{side}", taken)
                # A corrected cell may have a value that is not among the type's.
                kind = Kind.TEXT if one.column.kind is Kind.CATEGORY else one.column.kind
                taken[name] = library.array(Column(name, kind, (), one.column.type), [cells[line] for line in lines])
        differing = {field: one.differs for field, one in self.fields.items()}
        taken[_free("changed", taken)] = [
            ", ".join(field for field, differs in differing.items() if differs[line]) for line in lines
        ]
        for side, answers, where in (("old", rows.old, rows.other[at]), ("new", rows.new, rows.line[at])):
            name = _free(f"failure_{side}", taken)
            kinds = [_why(answers, line) for line in where.tolist()]
            taken[name] = library.array(Column(name, Kind.TEXT), kinds)
        if self.labelled is not None:
            words = {1: "better", -1: "worse", 0: "same"}
            taken[_free("verdict", taken)] = [words[one] for one in self.verdict[at].tolist()]
        return library.columns_frame(taken)


def _why(side: AnswerSide, line: int) -> str | None:
    """Return why a line has no answer: its failure kind, or otherwise its status."""
    status = int(side.status[line])
    if status <= 1 or status == CHANGED_BY_HAND:
        return None
    return side.failures[line] or STATUSES[status]


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name += "_"
    return name


def _known(value: Any) -> Any:
    return None if value is None or value == "" or value != value else value


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


_FIELD_HEAD = ("field", "changed", "churn", "95 % interval", "asked twice", "kappa", "p of the shift", "mean")


def _field_line(one: FieldChange) -> tuple[str, ...]:
    mean = (
        ""
        if one.means is None
        else f"{_mean(one.means[0])} → {_mean(one.means[1])}{' ' + one.unit if one.unit else ''}"
    )
    return (
        one.field,
        f"{one.changed:,} of {one.compared:,}",
        _percent(one.churn),
        f"{_percent(one.low)} to {_percent(one.high)}",
        "not known"
        if one.noise is None
        else f"{_percent(one.noise)} of {counted(one.noise_pairs, 'pair')} ({one.noise_from})",
        "" if one.kappa != one.kappa else f"{one.kappa:.2f}",
        "" if one.p_shift != one.p_shift else f"{one.p_shift:.3f}" if one.p_shift >= 0.001 else "< 0.001",
        mean,
    )


def _percent(share: float) -> str:
    return "" if share != share else f"{100 * share:.1f} %"


def _cost_lines(names: tuple[str, str], costs: tuple[RunCosts, RunCosts]) -> list[tuple[str, ...]]:
    old, new = costs
    lines: list[tuple[str, ...]] = [("each alone, a distinct row when it was paid for", *names)]
    lines.append(("US dollars", *(format_usd_or(one.cost_usd, "unknown") for one in costs)))
    for what, values in (
        ("input tokens, mean", (old.input_tokens, new.input_tokens)),
        ("output tokens, mean", (old.output_tokens, new.output_tokens)),
    ):
        lines.append((what, *("unknown" if value is None else f"{value:,.1f}" for value in values)))
    latencies = (old.latency_s, new.latency_s)
    lines.append(("seconds, median", *("unknown" if one is None else f"{one:.2f}" for one in latencies)))
    lines.append(("rows read", *(f"{one.rows:,}" for one in costs)))
    return lines


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _mean(number: float) -> str:
    return f"{number:,.0f}" if 1_000 <= abs(number) < 1e15 else f"{number:.3g}"
