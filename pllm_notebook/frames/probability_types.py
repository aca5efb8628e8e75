"""The probabilities of some rows, independent of their source."""

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
        options: JSON values, in declared order; None is "no value".
        p: Shape (n_rows, n_options), NaN if unknown. The probabilities of a row add up to 1, except for a list field,
            where each is the probability that the option is in the list.
        source: "samples": share of the samples with the option; "logprobs": the model's own probability of the tokens
            that lead to the option; "decisions": from a decision endpoint; "fixed": there is only one option.
        model: Name of the model, as requested.
        mass: The share of the model's probability that fell on any option, by row; None if unknown.
    """

    field: str
    options: tuple[Any, ...]
    p: Numbers
    source: str
    model: str
    mass: Numbers | None = None


@dataclass(frozen=True, slots=True)
class RowProbabilities:
    """The probabilities of some rows of a run.

    Attributes:
        parts: The probabilities by field and model, ordered by field, then by model.
        confidence: The probability of each row's value, for each column of an answer in order. NaN for text, rows
            without an answer, and answers from a judge or a stronger model. With several models, the mean. For a list,
            the probability of the label whose presence or absence is least certain.
    """

    parts: tuple[FieldProbabilities, ...]
    confidence: Mapping[str, Numbers]


def answer_columns(
    output: OutputType | None, prefix: str, column: str, names: Sequence[str] | None
) -> list[tuple[str, ChoiceField | None]]:
    """Return the columns of an answer. A nested model with options has a column for each field that has options.

    Args:
        output: The type.
        prefix: As in `Options`.
        column: As in `Options`.
        names: Names of the fields if they differ from those of the type, None if they do not.
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
