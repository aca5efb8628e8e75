"""Probabilities of each question's options, as a decision endpoint states them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pllm_notebook.ensemble import Assembly, EnsembleResults
from pllm_notebook.execution import LiveRun
from pllm_notebook.frames.probability_types import FieldProbabilities, Numbers, RowProbabilities, answer_columns
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.schema import ChoiceField, DecisionAnswer, FieldQuestions

__all__ = ["decision_shares"]

_Answers = Mapping[str, "DecisionAnswer | None"]


class _Decided(NamedTuple):
    """Some rows of a run that used a decision endpoint.

    Attributes:
        columns: Name and options of each answer column; None for a column without options.
        fields: The fields that were asked as questions.
        model: The model as requested.
        answers: The answers of each row by question name; {} without answers.
        has_value: Whether each row has an answer.
    """

    columns: Sequence[tuple[str, ChoiceField | None]]
    fields: Sequence[FieldQuestions]
    model: str
    answers: Sequence[_Answers]
    has_value: Sequence[bool]


def decision_shares(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> RowProbabilities | None:
    """Return the probabilities of some rows; None for a run that used no decision endpoint."""
    found = _live(run, rows) if isinstance(run, LiveRun) else _recorded(run, rows)
    return None if found is None else _shares(found)


def _live(run: LiveRun, rows: Sequence[int]) -> _Decided | None:
    ensemble = run.execution.decider
    if not isinstance(ensemble, EnsembleResults) or not isinstance(assembly := ensemble.plan.assembly, Assembly):
        return None
    options, judging, table = ensemble.plan.members[0].spec.options, ensemble.plan.judging, ensemble.table
    answers: list[_Answers] = []
    valid: list[bool] = []
    for row in rows:
        call, outcome = table.call_of_row[row], table.outcome(row)
        made: dict[str, DecisionAnswer | None] = {}
        for part in ensemble.outcomes(call)[:judging] if call >= 0 else ():
            made |= part.value if part is not None and part.failure is None else {}
        answers.append(made)
        valid.append(outcome is not None and outcome.failure is None)
    columns = answer_columns(assembly.plan.output, options.prefix, options.column, None)
    return _Decided(columns, assembly.plan.fields, ensemble.plan.members[0].model, answers, valid)


def _recorded(run: RegisteredRun, rows: Sequence[int]) -> _Decided | None:
    ensemble, record = run.header.get("ensemble"), run.record
    if ensemble is None or ensemble.get("assembled") is None or record is None:
        return None
    answers = run.read_answers()
    assert answers.assembled is not None
    shaping, plan = run.header["shaping"], answers.assembled.assembly.plan
    columns = answer_columns(plan.output, shaping["prefix"], shaping["column"], run.header["field_names"])
    decided = answers.decided_answers(rows)
    valid = [found is not None for found in answers.values_of(rows)]
    return _Decided(columns, plan.fields, ensemble["members"][0][0], decided, valid)


def _shares(found: _Decided) -> RowProbabilities:
    total = len(found.answers)
    by_choice = {field.choice.path: field for field in found.fields}
    parts: list[FieldProbabilities] = []
    confidence: dict[str, Numbers] = {}
    for name, choice in found.columns:
        confidence[name] = np.full(total, np.nan)
        field = None if choice is None else by_choice.get(choice.path)
        if field is None:
            continue
        p = np.full((total, len(field.choice.options)), np.nan)
        for row, answers in enumerate(found.answers):
            stated = field.probabilities(answers)
            if stated is None or not (answers or not field.questions):
                continue
            p[row] = stated
            if found.has_value[row]:
                sure = field.confidence(answers)
                confidence[name][row] = np.nan if sure is None else sure
        source = "decisions" if field.questions else "fixed"
        parts.append(FieldProbabilities(name, field.choice.options, p, source, found.model))
    return RowProbabilities(tuple(parts), confidence)
