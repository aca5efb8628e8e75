"""Answers of a simulated decision endpoint: a probability for each option of each question."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pllm_notebook.sim.known_model import KnownModel

__all__ = ["Decided", "SimQuestion", "Unanswerable", "answers_to", "schema_of_questions"]

# Decimals of a probability. With many options, two decimals would round most of them to zero.
_FEW_OPTIONS, _DECIMALS, _DECIMALS_OF_MANY = 10, 2, 4
YES_NO = ("true", "false")

# How pllm_notebook names the option for no value, which is the last one.
_NO_VALUE = "Not stated."
_MISSING = object()
_SHOWN = 80

Decided = dict[str, "list[float] | None"]
"""Probabilities of the options by question name; None for a refusal."""


class Unanswerable(ValueError):
    """A scripted answer that does not answer the questions."""


@dataclass(frozen=True, slots=True)
class SimQuestion:
    """One question of a request.

    Attributes:
        name: Name in the request.
        options: Names in the request; "true" and "false" for a statement; the labels of the levels for a scale.
        is_yes_no: Whether the question is a statement.
    """

    name: str
    options: tuple[str, ...]
    is_yes_no: bool = False


def schema_of_questions(questions: Sequence[SimQuestion]) -> dict[str, Any]:
    """Return the schema of an object with one answer per question name, for the generator of answers."""
    kinds = {q.name: {"type": "boolean"} if q.is_yes_no else {"enum": list(q.options)} for q in questions}
    return {"type": "object", "properties": kinds, "required": list(kinds)}


def answers_to(
    questions: Sequence[SimQuestion],
    value: Any,
    stated: Mapping[str, Mapping[str, float]],
    refused: Collection[str],
    model: KnownModel,
    key: bytes,
) -> Decided:
    """Return the answer to each question, rounded to two decimals; with more than ten options, to four.

    Args:
        questions: Questions of the request, in order.
        value: Correct answers by question name, or a whole value in which the names are paths of fields.
        stated: Probability of each option by question name, in place of the model's.
        refused: Names of the refused questions.
        model: Confidence and error rate of the simulated model.
        key: Key of the request.

    Raises:
        Unanswerable: If the correct answer to a question is missing, or none of its options.
    """
    made: Decided = {}
    for question in questions:
        if question.name in refused or model.refuses(key, question.name):
            made[question.name] = None
            continue
        if question.name in stated:
            p = [float(stated[question.name].get(option, 0.0)) for option in question.options]
        else:
            right = _position(question, _found(value, question.name))
            _, p = model.answered(key, question.name, len(question.options), right)
        decimals = _DECIMALS if len(p) <= _FEW_OPTIONS else _DECIMALS_OF_MANY
        made[question.name] = [round(one, decimals) for one in p]
    return made


def _found(value: Any, name: str) -> Any:
    """Return the value at a dotted path, `_MISSING` without one. For a list, return whether it contains *name*."""
    if isinstance(value, list):
        return any(name in _spellings(item) for item in value)
    if not isinstance(value, Mapping):
        return value
    if name in value:
        return value[name]
    head, _, rest = name.partition(".")
    return _found(value[head], rest) if rest and head in value else _MISSING


def _position(question: SimQuestion, value: Any) -> int:
    # Not the first option for a value that is none: an answer with a typing error would pass for another one.
    if value is _MISSING:
        raise Unanswerable(f"The scripted answer has no value for the question {question.name!r}.")
    for text in _spellings(value):
        if text in question.options:
            return question.options.index(text)
    if value is None and _NO_VALUE in question.options[-1]:
        return len(question.options) - 1
    raise Unanswerable(
        f"The scripted answer to the question {question.name!r} is {repr(value)[:_SHOWN]}, which is none of its "
        f"options: {', '.join(question.options)[:_SHOWN]}."
    )


def _spellings(value: Any) -> tuple[str, ...]:
    """Return the names that an option may have in a request: JSON where plain text would be ambiguous."""
    spelled = orjson.dumps(value).decode()
    return (spelled, value) if isinstance(value, str) else (spelled,)
