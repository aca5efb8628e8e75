"""Converts the fields of a type to questions for a decision endpoint, and their probabilities back to values.

A field with known values becomes one question. A list of such values becomes one question for each label. Nested models
are flattened. The rest of the type (text, other numbers, lists of models) is answered by a chat model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import orjson

from pllm_notebook.messages_types import DecisionQuestion
from pllm_notebook.schema.choices import ChoiceField, spelling
from pllm_notebook.schema.output import OutputType

__all__ = ["MAX_LEVELS", "DecisionAnswer", "FieldQuestions", "QuestionPlan"]

MAX_LEVELS = 10
"""Maximum levels of a scale that all decision endpoints accept. A longer scale becomes a choice."""

NOT_STATED = "Not stated."
_EVEN = 0.5


@dataclass(frozen=True, slots=True)
class DecisionAnswer:
    """The answer to one question.

    Attributes:
        p: Probability of each option of the question, in the question's order.
        chosen: Position of the chosen option.
    """

    p: tuple[float, ...]
    chosen: int


@dataclass(frozen=True, slots=True)
class FieldQuestions:
    """The questions of one field.

    Attributes:
        choice: The field.
        questions: One question, or one for each label; () if there is only one option.
    """

    choice: ChoiceField
    questions: tuple[DecisionQuestion, ...]

    def probabilities(self, answers: Mapping[str, DecisionAnswer | None]) -> list[float] | None:
        """Return the probability of each option of the field, or None if a question was not answered."""
        given = [answers.get(question.name) for question in self.questions]
        answered = [one for one in given if one is not None]
        if len(answered) < len(given):
            return None
        if not given:
            return [1.0]
        return [one.p[0] for one in answered] if self.choice.kind == "labels" else list(answered[0].p)

    def value(self, answers: Mapping[str, DecisionAnswer | None]) -> Any:
        """Return the field's value as decoded JSON. All its questions must have answers."""
        options = self.choice.options
        if self.choice.kind == "labels":
            p = self.probabilities(answers) or ()
            return [option for option, one in zip(options, p, strict=True) if one >= _EVEN]
        answered = answers.get(self.questions[0].name) if self.questions else None
        return options[0 if answered is None else answered.chosen]

    def confidence(self, answers: Mapping[str, DecisionAnswer | None]) -> float | None:
        """Return the probability of the field's value, or of the least certain label of a list. None without answer."""
        p = self.probabilities(answers)
        if p is None:
            return None
        if self.choice.kind == "labels":
            return min((max(one, 1 - one) for one in p), default=1.0)
        answered = answers.get(self.questions[0].name) if self.questions else None
        return p[0 if answered is None else answered.chosen]


class QuestionPlan:
    """A type divided into questions for a decision endpoint and a rest for a chat model.

    Args:
        output: The type.
        most_options: Maximum options of a question. A field with more is left to chat.

    Attributes:
        output: The type.
        most_options: Maximum options of a question.
        fields: The fields that become questions, or have only one value, in declared order.
    """

    def __init__(self, output: OutputType, most_options: int) -> None:
        self.output = output
        self.most_options = most_options
        names: set[str] = set()
        self.fields = tuple(
            FieldQuestions(choice, tuple(_questions(choice, names)))
            for choice in output.choices
            if choice.kind == "labels" or len(choice.options) <= most_options
        )

    @property
    def questions(self) -> tuple[DecisionQuestion, ...]:
        """All questions, in the order of the fields."""
        return tuple(question for field in self.fields for question in field.questions)

    def name_questions(self, names: Sequence[str]) -> None:
        """Rename the questions. *names* has one name for each, in their order."""
        left = iter(names)
        self.fields = tuple(
            replace(field, questions=tuple(replace(question, name=next(left)) for question in field.questions))
            for field in self.fields
        )

    @cached_property
    def rest(self) -> OutputType | None:
        """The type for chat, without the fields that are questions; None if no fields are left."""
        schema = self.output.json_schema
        if any(not field.choice.path for field in self.fields):
            return None
        left = _without(schema, [field.choice.path for field in self.fields], schema.get("$defs", {}))
        if left is None:
            return None
        left["title"] = self.output.name
        return OutputType.of_recorded(left | ({"$defs": schema["$defs"]} if "$defs" in schema else {}))

    def assembled(self, answers: Mapping[str, DecisionAnswer | None], rest: Any) -> Any:
        """Return the whole value as decoded JSON, from the decisions and the reply of chat.

        A field with an unanswered question is left out.

        Args:
            answers: Answers by name of the question, None for a refused question.
            rest: Chat's value of the type `rest`; {} if `rest` is None.
        """
        whole = copy.deepcopy(rest)
        for field in self.fields:
            path = field.choice.path
            if not path:
                return field.value(answers)
            level = whole
            for name in path[:-1]:
                level = level.setdefault(name, {})
            level.pop(path[-1], None)  # a chat model that ignores the schema may have answered it too
            if field.probabilities(answers) is not None:
                level[path[-1]] = field.value(answers)
        return whole

    def refused(self, answers: Mapping[str, DecisionAnswer | None]) -> tuple[ChoiceField, ...]:
        """Return the fields with an unanswered question."""
        return tuple(field.choice for field in self.fields if field.probabilities(answers) is None)


def _questions(choice: ChoiceField, names: set[str]) -> Iterator[DecisionQuestion]:
    if choice.kind == "labels":
        text = _instructions(choice)
        notes = choice.notes or ("",) * len(choice.options)
        for option, label, note in zip(choice.options, _labels(choice.options), notes, strict=True):
            name = _free(f"{choice.name}.{label}" if choice.name else label, names)
            applies = f"{_worded(option)} ({note.rstrip('.')})" if note else _worded(option)
            yield DecisionQuestion(name, "predicate", f"{text} This applies: {applies}.", ("true", "false"))
        return
    if len(choice.options) == 1:
        return
    name, labels = _free(choice.name or "answer", names), _labels(choice.options)
    if choice.kind == "yes_no" and None not in choice.options:
        text = choice.description or f"This is true: {_words(choice.name) or 'yes'}."
        order = choice.options if choice.options[0] is True else ()
        # The endpoint returns the probability of true; a type that lists false first has its options in that order.
        if order:
            yield DecisionQuestion(name, "predicate", text, ("true", "false"))
            return
    kind: Any = "scale" if _is_scale(choice) else "choice"
    yield DecisionQuestion(name, kind, _instructions(choice), labels, () if kind == "scale" else choice.notes)


def _is_scale(choice: ChoiceField) -> bool:
    return choice.kind == "scale" and None not in choice.options and len(choice.options) <= MAX_LEVELS


def _instructions(choice: ChoiceField) -> str:
    words = _words(choice.name) or "The answer"
    return f"{words}: {choice.description}" if choice.description else f"{words}."


def _words(name: str) -> str:
    return " ".join(name.replace(".", ", ").replace("_", " ").split())


def _worded(option: Any) -> str:
    return option if isinstance(option, str) else orjson.dumps(option).decode()


def _labels(options: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of options in a request: plain text, or JSON for names that would be ambiguous."""
    plain = [option if isinstance(option, str) else spelling(option).decode() for option in options]
    twice = {label for label in plain if plain.count(label) > 1}
    made: list[str] = []
    for option, label in zip(options, plain, strict=True):
        if option is None:
            label = NOT_STATED
            while label in plain:
                label = f"({label})"
        elif label in twice or not label or label != label.strip() or not label.isprintable():
            label = spelling(option).decode()
        made.append(_free(label, set(made)))
    return tuple(made)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _without(
    schema: Mapping[str, Any], paths: Sequence[tuple[str, ...]], definitions: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return an object's schema without the fields at *paths*, None if no fields are left."""
    for _ in range(len(definitions) + 1):
        if "$ref" not in schema:
            break
        schema = definitions[str(schema["$ref"]).rpartition("/")[2]]
    properties: dict[str, Any] = {}
    for name, inner in schema.get("properties", {}).items():
        below = [path[1:] for path in paths if path[0] == name]
        if () in below:
            continue
        left = _without(inner, below, definitions) if below else inner
        if left is not None:
            properties[name] = left
    if not properties:
        return None
    made = {word: value for word, value in schema.items() if word not in ("properties", "required", "$defs")}
    required = [name for name in schema.get("required", ()) if name in properties]
    return made | {"properties": properties} | ({"required": required} if required else {})
