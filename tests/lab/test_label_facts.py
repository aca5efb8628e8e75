"""Facts about labels: a failed row is wrong whatever its label is, and None is an answer like another."""

from __future__ import annotations

import numpy as np

from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.lab.corrected_groups import FieldAnswers
from pllm_notebook.lab.label_facts import evaluation_facts


def test_a_failed_row_is_wrong_even_if_its_label_is_none() -> None:
    none = np.zeros(4, dtype=bool)
    answers = FieldAnswers(
        field="mood",
        column=Column("mood", Kind.CATEGORY, ("good", "bad")),
        rows=np.arange(4),
        answers=[None, None, "good", "bad"],
        labels=[None] * 4,
        labelled=~none,
        truths=[None, None, "good", "good"],
        failed=np.array([True, False, False, False]),
        examples=none,
        counted=~none,
        pi=np.ones(4),
        question=np.arange(4),
        problem="",
    )

    found = evaluation_facts(answers, "labels")

    assert found is not None
    assert (found["rows"], found["failed"], found["accuracy"]) == (4, 1, 0.5)
    assert {line["value"]: line["recall"] for line in found["classes"] if line["labels"]} == {"None": 0.5, "good": 0.5}
