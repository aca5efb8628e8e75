"""What is known of the probabilities of some rows, whatever they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pllm_notebook.schema import ChoiceField, OutputType

__all__ = ["FieldProbabilities", "Numbers", "RowProbabilities", "answer_columns"]

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class FieldProbabilities:
    """The probabilities of one field's options by one source and one model.

    Attributes:
        field: Name of the result column; `outer.inner` inside a nested model.
        options: As JSON has them, in declared order; None is "no value".
        p: Shape (n_rows, n_options), NaN where there is none. The options of a row add up to 1, those of a list field
            do not: each is the probability that it is in the list.
        source: "samples": the share of the samples that have the option; "logprobs": the model's own, of the tokens
            that lead to it; "decisions": a decision endpoint's; "fixed": there is only one.
        model: As it was asked.
        mass: For each row, how much of the model's probability fell on an option at all; None where that is not known.
    """

    field: str
    options: tuple[Any, ...]
    p: Numbers
    source: str
    model: str
    mass: Numbers | None = None


@dataclass(frozen=True, slots=True)
class RowProbabilities:
    """What is known of some rows of a run.

    Attributes:
        parts: By field, then by model.
        confidence: For each column of an answer, in order, the probability of each row's value; NaN for text, for a row
            without an answer, and for an answer that a judge or a stronger model gave. Of several models, the mean. Of
            a list, that of the label which is least sure to be in it, or not in it.
    """

    parts: tuple[FieldProbabilities, ...]
    confidence: Mapping[str, Numbers]


def answer_columns(
    output: OutputType | None, prefix: str, column: str, names: Sequence[str] | None
) -> list[tuple[str, ChoiceField | None]]:
    """Return the columns of an answer; a nested model with options has one for each field that has them.

    Args:
        output: The type.
        prefix: As in `Options`.
        column: As in `Options`.
        names: Of the fields, where the type has others.
    """
    choices = () if output is None else output.choices
    if output is None or output.fields is None:
        return [(prefix + column, choices[0] if choices else None)]
    made: list[tuple[str, ChoiceField | None]] = []
    for at, field in enumerate(output.fields):
        name = names[at] if names else field.name
        own = [choice for choice in choices if choice.at == at]
        made += [(prefix + name + choice.name.removeprefix(field.name), choice) for choice in own] or [
            (prefix + name, None)
        ]
    return made
