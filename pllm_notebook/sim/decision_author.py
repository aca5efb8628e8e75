"""The answers of a simulated decision endpoint: a probability for each option of each question."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pllm_notebook.sim.known_model import KnownModel

__all__ = ["Decided", "SimQuestion", "answers_to", "schema_of_questions"]

# Decimals of a probability. Two would make nothing of most options of a long question.
_FEW_OPTIONS, _DECIMALS, _DECIMALS_OF_MANY = 10, 2, 4
YES_NO = ("true", "false")

Decided = dict[str, "list[float] | None"]
"""By name of the question the probability of each option, None for a refusal."""


@dataclass(frozen=True, slots=True)
class SimQuestion:
    """A question as it was asked.

    Attributes:
        name: As the request has it.
        options: As the request names them; of a statement "true" and "false"; of a scale the labels of its levels.
        is_yes_no: Whether it is a statement.
    """

    name: str
    options: tuple[str, ...]
    is_yes_no: bool = False


def schema_of_questions(questions: Sequence[SimQuestion]) -> dict[str, Any]:
    """Return the schema of an answer by name, which the author of all answers follows."""
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
        questions: As they were asked.
        value: The right answers, by name of the question; or a whole value, whose fields the names are paths of.
        stated: By name, the probability of each option, in the place of the model's.
        refused: Names of the questions that are refused.
        model: How sure it is, and how often it is wrong.
        key: Of the request.
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
    """Return what is at a path of names; of a list, whether it holds what follows."""
    if isinstance(value, list):
        return name in [_text(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if name in value:
        return value[name]
    head, _, rest = name.partition(".")
    return _found(value.get(head), rest) if rest else None


def _position(question: SimQuestion, value: Any) -> int:
    text = _text(value)
    if text in question.options:
        return question.options.index(text)
    # What is not said is the last option: "false", or that there is nothing.
    return len(question.options) - 1 if value is None or question.is_yes_no else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
