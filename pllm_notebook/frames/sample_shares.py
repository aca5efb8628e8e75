"""Probabilities as shares of several samples, without smoothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import from_json

from pllm_notebook.ensemble import EnsembleResults
from pllm_notebook.execution import LiveRun
from pllm_notebook.frames.probability_types import FieldProbabilities, Numbers, RowProbabilities, answer_columns
from pllm_notebook.frames.recorded_answers import Answers
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.schema import ChoiceField

__all__ = ["sample_shares"]

# Ways to decide a row in which another model's answer replaced those of the samples.
_NOT_OF_SAMPLES = ("judge", "escalated")


class _Sampled(NamedTuple):
    """The answers to some rows.

    Attributes:
        columns: Name and options of each column of an answer.
        models: The model of each member.
        answers: The field values of each member (None for no answer) and those of the row's answer (None if it is not
            from the samples), for each row.
    """

    columns: Sequence[tuple[str, ChoiceField | None]]
    models: Sequence[str]
    answers: Iterable[tuple[Sequence[Sequence[Any] | None], Sequence[Any] | None]]


def sample_shares(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> RowProbabilities | None:
    """Return the sample shares of some rows, None for a run without several samples per model."""
    sampled = _live(run, rows) if isinstance(run, LiveRun) else _recorded(run, rows)
    return None if sampled is None else _shares(sampled, len(rows))


def _live(run: LiveRun, rows: Sequence[int]) -> _Sampled | None:
    ensemble = run.execution.decider
    if not isinstance(ensemble, EnsembleResults) or not any(member.sample for member in ensemble.plan.members):
        return None
    plan, table = ensemble.plan, ensemble.table
    options = plan.members[0].spec.options

    def parts(value: Any) -> Sequence[Any]:
        answer = plan.answer(value)
        return (answer,) if plan.output is None else plan.output.field_values(answer)

    def answers() -> Iterator[tuple[Sequence[Sequence[Any] | None], Sequence[Any] | None]]:
        for row in rows:
            call = table.call_of_row[row]
            if call < 0:
                yield (), None
                continue
            given = [None if o is None or o.failure is not None else parts(o.value) for o in ensemble.outcomes(call)]
            decided, decision = table.outcomes[call], ensemble.decisions.get(call)
            if decided is None or decided.failure is not None or (decision and decision.how in _NOT_OF_SAMPLES):
                yield given, None
            else:
                yield given, parts(decided.value)

    columns = answer_columns(plan.output, options.prefix, options.column, None)
    return _Sampled(columns, [member.model for member in plan.members], answers())


def _recorded(run: RegisteredRun, rows: Sequence[int]) -> _Sampled | None:
    ensemble, record = run.header.get("ensemble"), run.record
    if ensemble is None or record is None or record.samples is None or not any(m[1] for m in ensemble["members"]):
        return None
    answers: Answers = run.read_answers()
    output, shaping = answers.output, run.header["shaping"]

    def each() -> Iterator[tuple[Sequence[Sequence[Any] | None], Sequence[Any] | None]]:
        decided = answers.values_of(rows)
        for one, found in zip(answers.sampled([(0, None, row) for row in rows]), decided, strict=True):
            own = found is not None and one.how not in _NOT_OF_SAMPLES
            whole: Any = found[0] if found is not None and own else None
            yield one.values, None if not own else (whole,) if output is None else output.field_values(whole)

    columns = answer_columns(output, shaping["prefix"], shaping["column"], run.header["field_names"])
    return _Sampled(columns, [model for model, _, _ in ensemble["members"]], each())


def _shares(sampled: _Sampled, total: int) -> RowProbabilities:
    """Count the samples. Without smoothing, a share of k samples has one of k + 1 values."""
    counts = [_Counts(choice, sampled.models, total) for _, choice in sampled.columns if choice is not None]
    for row, (members, own) in enumerate(sampled.answers):
        for each in counts:
            each.add(row, members, own)
    parts: list[FieldProbabilities] = []
    confidence: dict[str, Numbers] = {}
    counted = iter(counts)
    for name, choice in sampled.columns:
        confidence[name] = np.full(total, np.nan)
        if choice is not None:
            options, shares, confidence[name] = next(counted).result()
            parts += [FieldProbabilities(name, options, p, "samples", model) for model, p in shares.items()]
    return RowProbabilities(tuple(parts), confidence)


class _Counts:
    """The counts of one field's options."""

    def __init__(self, choice: ChoiceField, models: Sequence[str], total: int) -> None:
        self._choice, self._total = choice, total
        self._known = choice.positions()
        self._models = list(dict.fromkeys(models))
        self._model_of = [self._models.index(model) for model in models]
        self._given: list[tuple[int, int, int]] = []
        self._answered = np.zeros((total, len(self._models), 1))
        self._own: list[tuple[int, int]] = []
        self._has_own = np.zeros(total, dtype=bool)

    def add(self, row: int, members: Sequence[Sequence[Any] | None], own: Sequence[Any] | None) -> None:
        choice, known = self._choice, self._known
        for model, parts in zip(self._model_of, members, strict=False):
            if parts is not None:
                self._answered[row, model] += 1
                self._given += [(row, model, code) for code in choice.codes(choice.value(parts), known)]
        if own is not None:
            self._has_own[row] = True
            self._own += [(row, code) for code in choice.codes(choice.value(own), known)]

    def result(self) -> tuple[tuple[Any, ...], dict[str, Numbers], Numbers]:
        """Return the options, the shares by model, and the confidence of each row's value."""
        options = tuple(map(from_json, self._known))
        counts = np.zeros((self._total, len(self._models), len(options)))
        if self._given:
            np.add.at(counts, tuple(np.array(self._given).T), 1)
        shares = np.divide(counts, self._answered, out=np.full_like(counts, np.nan), where=self._answered > 0)
        answering = (self._answered > 0).sum(axis=1)
        mean = np.divide(np.nansum(shares, axis=1), answering, out=np.full(shares[:, 0].shape, np.nan),
                         where=answering > 0)  # fmt: skip
        own = np.zeros(mean.shape, dtype=bool)
        if self._own:
            own[tuple(np.array(self._own).T)] = True
        if self._choice.kind == "labels":
            sure = np.where(own, mean, 1 - mean).min(axis=1, initial=1)
        else:
            sure = np.where(own, mean, 0).sum(axis=1)
        by_model = {model: shares[:, at] for at, model in enumerate(self._models)}
        return options, by_model, np.where(self._has_own & (answering[:, 0] > 0), sure, np.nan)
