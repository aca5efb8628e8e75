"""Probabilities of each option from the model's own token probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.ensemble import EnsembleResults
from pllm_notebook.execution import LiveRun, options_by_path
from pllm_notebook.frames.probability_types import FieldProbabilities, Numbers, RowProbabilities, answer_columns
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.samples import HOWS
from pllm_notebook.providers import token_formats, value_steps
from pllm_notebook.schema import ChoiceField, OutputType, ValueStep, chosen_option, option_shares, spelling
from pllm_notebook.store import open_store
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish

__all__ = ["token_shares"]

# Number of rows whose replies are read at once.
_CHUNK = 2_000


class _Replied(NamedTuple):
    """A run that asked for token probabilities.

    Attributes:
        output: The type.
        wrapped: Whether a reply has the value as its property `value`.
        columns: Name and options of each answer column; None for a column without options.
        model: The model as requested.
    """

    output: OutputType
    wrapped: bool
    columns: Sequence[tuple[str, ChoiceField | None]]
    model: str


def token_shares(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> RowProbabilities | None:
    """Return the token probabilities of some rows; None for a run that did not request them."""
    replied = _live(run) if isinstance(run, LiveRun) else _recorded(run)
    if replied is None:
        return None
    total = len(rows)
    fields = {
        name: _Field(choice, replied.wrapped, total)
        for name, choice in replied.columns
        if choice is not None and choice.kind != "labels"
    }
    options, formats = options_by_path(replied.output, wrapped=replied.wrapped), token_formats()
    for start in range(0, total, _CHUNK):
        some = rows[start : start + _CHUNK]
        for at, entry in enumerate(_replies(run, some), start):
            if entry is not None and entry.finish is Finish.COMPLETE:
                text = entry.text.decode("utf-8", "surrogatepass")
                steps = value_steps(entry.raw, formats, text, options) or {}
                for field in fields.values():
                    field.add(at, steps)
    confidence = {name: fields[name].confidence if name in fields else np.full(total, np.nan)
                  for name, _ in replied.columns}  # fmt: skip
    parts = [field.part(name, replied.model) for name, field in fields.items()]
    return RowProbabilities(tuple(parts), confidence)


class _Field:
    """The probabilities of one field's options, row by row."""

    def __init__(self, choice: ChoiceField, wrapped: bool, total: int) -> None:
        self._choice = choice
        self._path = ("value", *choice.path) if wrapped else choice.path
        self._spellings = [spelling(option).decode() for option in choice.options]
        self._p = np.full((total, len(choice.options)), np.nan)
        self._mass = np.full(total, np.nan)
        self.confidence: Numbers = np.full(total, np.nan)

    def add(self, row: int, steps: dict[Any, list[ValueStep]]) -> None:
        """Add the tokens of a row's reply."""
        if len(self._spellings) == 1:  # there was no choice
            self._p[row, 0] = self.confidence[row] = 1.0
            return
        own = steps.get(self._path)
        shares = option_shares(own, self._spellings) if own else None
        if own is None or shares is None:
            return
        self._p[row], self._mass[row] = shares.p, shares.mass
        chosen = chosen_option(own, self._spellings)
        if chosen is not None:
            self.confidence[row] = shares.p[chosen]

    def part(self, name: str, model: str) -> FieldProbabilities:
        source = "fixed" if len(self._spellings) == 1 else "logprobs"
        return FieldProbabilities(name, self._choice.options, self._p, source, model, self._mass)


def _live(run: LiveRun) -> _Replied | None:
    spec = run.spec
    if spec.tokens is None or spec.output is None or spec.fitted is None:
        return None
    columns = answer_columns(spec.output, spec.options.prefix, spec.options.column, None)
    return _Replied(spec.output, spec.fitted.wrapped, columns, spec.target.label)


def _recorded(run: RegisteredRun) -> _Replied | None:
    header = run.header
    if header["options"].get("probabilities") not in (True, "logprobs") or run.record is None:
        return None
    answers, shaping = run.read_answers(), header["shaping"]
    if answers.output is None:
        return None
    columns = answer_columns(answers.output, shaping["prefix"], shaping["column"], header["field_names"])
    return _Replied(answers.output, answers.wrapped, columns, header["model"].partition(" (")[0])


def _replies(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> Sequence[StoredReply | None]:
    """Return the last reply of each row that has the model's own answer, None for other rows."""
    if not isinstance(run, LiveRun):
        replies, record = run.read_answers().replies(rows), run.record
        assert record is not None
        own = record.status <= 1
        if record.samples is not None:
            own &= record.samples.how != 1 + HOWS.index("escalated")
        return [reply if own[row] else None for row, reply in zip(rows, replies, strict=True)]
    outcomes = [run.table.outcome(row) for row in rows]
    ensemble = run.execution.decider
    if isinstance(ensemble, EnsembleResults):
        hows = [ensemble.decisions.get(ensemble.table.call_of_row[row]) for row in rows]
        outcomes = [None if how and how.how == "escalated" else one for one, how in zip(outcomes, hows, strict=True)]
    answered = [None if one is None or one.failure is not None else one for one in outcomes]
    keys = [one.last or one.key for one in answered if one is not None and one.entry is None]
    known = open_store().get_many(list(dict.fromkeys(keys))) if keys else {}
    return [None if one is None else one.entry or known.get(one.last or one.key) for one in answered]
