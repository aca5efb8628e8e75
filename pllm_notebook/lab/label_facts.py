"""A report's facts about labels: who labelled, how rows were drawn, and the accuracy of the answers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pllm_notebook.frames.label_table import Labels
from pllm_notebook.lab.class_scores import NO_ANSWER, class_scores, macro_f1_interval
from pllm_notebook.lab.corrected_groups import FieldAnswers, accuracy_of
from pllm_notebook.statistics import CorrectedMean
from pllm_notebook.store import Label, LabelFile, current_directory

__all__ = ["evaluation_facts", "figure_of", "label_facts"]

_MOST_PERSONS = 6


def label_facts(answers: FieldAnswers) -> dict[str, Any] | None:
    """Return who labelled how many distinct rows of a field, and how those were drawn. None without labels."""
    known = {(label.columns, label.content): label for label in answers.labels if label is not None}
    if not known:
        return None
    every = [label for label in LabelFile(current_directory()).current(field=answers.field)
             if (label.columns, label.content) in known]  # fmt: skip
    persons = Counter(label.by for label in every)
    chances = {answers.question[at]: answers.pi[at] for at in np.flatnonzero(answers.has_chance).tolist()}
    return {
        "field": answers.field,
        "questions": len(known),
        "persons": dict(persons.most_common()),
        "drawn_by": dict(Counter(label.drawn_by or "not said" for label in known.values()).most_common()),
        "with_chance": len(chances),
        "for_certain": sum(1 for pi in chances.values() if pi == 1),
        "failed_left_out": int((~answers.counted & answers.failed).sum()),
        "examples_for_certain": int((answers.counted & answers.examples).sum()),
        "examples_left_out": int((~answers.counted & answers.examples & ~answers.failed).sum()),
        "problem": answers.problem,
        "kappa": _kappas(every, answers.field, [name for name, _ in persons.most_common(_MOST_PERSONS)]),
    }


def evaluation_facts(answers: FieldAnswers, against: str) -> dict[str, Any] | None:
    """Return the accuracy on labelled rows, by class and in the whole table. None without labels.

    Failed rows count as wrong. Rows that were examples of their run are left out.
    """
    lines = np.flatnonzero(answers.labelled & ~answers.examples).tolist()
    if not lines or not (answers.is_listed or answers.is_number):
        return None
    truths = [answers.truths[at] for at in lines]
    said = [NO_ANSWER if answers.failed[at] else answers.answers[at] for at in lines]
    question = answers.question[lines]
    right = [truth == answer for truth, answer in zip(truths, said, strict=True)]
    made: dict[str, Any] = {
        "field": answers.field,
        "against": against,
        "rows": len(lines),
        "questions": len(np.unique(question)),
        "examples": int((answers.labelled & answers.examples).sum()),
        "failed": int(answers.failed[lines].sum()),
        "accuracy": float(np.mean(right)),
        "whole_table": figure_of(accuracy_of(answers)) if answers.has_chance.any() or answers.problem else None,
    }
    if answers.is_listed:
        made["classes"] = [
            {"value": str(one.value), "labels": one.labels, "precision": one.precision, "recall": one.recall,
             "f1": one.f1}
            for one in class_scores(truths, said)
        ]  # fmt: skip
        macro = macro_f1_interval(truths, said, question)
        if macro is not None:
            mean, low, high, rest = macro
            made["macro_f1"] = {"mean": mean, "low": low, "high": high, "left_out": [str(value) for value in rest]}
    return made


def figure_of(found: CorrectedMean) -> dict[str, Any]:
    """Return a corrected mean as plain data."""
    return {
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "uncorrected": found.uncorrected,
        "labels": found.labels,
        "questions": found.questions,
        "rows": found.rows,
        "method": found.method,
        "reason": found.reason,
    }


def _kappas(labels: Sequence[Label], field: str, persons: Sequence[str]) -> list[dict[str, Any]]:
    """Return the agreement beyond chance of each pair of persons who labelled the same rows."""
    table, made = Labels(labels), []
    for one, other in itertools.combinations(persons, 2):
        rows = [{(label.columns, label.content) for label in labels if label.by == name} for name in (one, other)]
        if both := len(rows[0] & rows[1]):
            made.append({"persons": [one, other], "rows": both, "kappa": table.kappa(field, one, other)})
    return made
