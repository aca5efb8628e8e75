"""Read the replies of a decision endpoint as answers to its questions.

Every wire format converts them to the same JSON: `{"NAME": {"p": {"OPTION": …}, "choice": "OPTION"}}`, with null for a
refused question. The options of a scale are the indexes of its levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.failures import FailureKind
from pllm_notebook.messages_types import DecisionQuestion
from pllm_notebook.schema.fitted_schema import FittedSchema, Invalid, Parsed
from pllm_notebook.schema.output import OutputType
from pllm_notebook.schema.provider_support import PLAIN, Dialect
from pllm_notebook.schema.questions import DecisionAnswer, QuestionPlan

__all__ = ["DecidedSchema", "DecisionOutput", "Misread", "read_answers"]

# Tolerance for the sum of probabilities that are each rounded to two decimals, with an error of up to 0.005.
_LEAST_SLACK, _SLACK_OF_OPTION, _MOST_SLACK = 0.02, 0.005, 0.5
_FLOAT_ERROR = 1e-9


class Misread(ValueError):
    """A reply that does not answer the questions."""


class DecidedSchema(FittedSchema):
    """Read the replies to some questions. The values are answers by question name."""

    __slots__ = ("_questions",)

    def __init__(self, whole: FittedSchema, questions: Sequence[DecisionQuestion]) -> None:
        self._questions = questions
        for name in FittedSchema.__slots__:
            setattr(self, name, getattr(whole, name))

    def parse(self, text: bytes | str, context: Any = None) -> Parsed:
        """Read one reply (see `FittedSchema.parse`)."""
        found = self.parse_many([text.encode() if isinstance(text, str) else text])[0]
        return Parsed(failure=found) if isinstance(found, Invalid) else Parsed(found)

    def parse_many(self, texts: Sequence[bytes], contexts: Sequence[Any] | None = None) -> list[Any]:
        """Read many replies (see `FittedSchema.parse_many`)."""
        made: list[Any] = []
        for text in texts:
            try:
                made.append(read_answers(self._questions, text))
            except Misread as error:
                made.append(Invalid(FailureKind.MALFORMED, str(error), (((), "answers"),)))
        return made


class DecisionOutput(OutputType):
    """The output type of a request that asks a decision endpoint about some fields of a type.

    Args:
        plan: The plan for the whole type.
        questions: The questions of this request.

    Attributes:
        plan: As given.
    """

    def __init__(self, plan: QuestionPlan, questions: tuple[DecisionQuestion, ...]) -> None:
        vars(self).update(vars(plan.output))
        self.plan = plan
        self.questions = questions
        self._decided: dict[Dialect, FittedSchema] = {}

    def fit(self, dialect: Dialect) -> FittedSchema:
        """Return the reader of the replies. The questions are not a schema."""
        found = self._decided.get(dialect)
        if found is None:
            found = self._decided[dialect] = DecidedSchema(self.plan.output.fit(PLAIN), self.questions)
        return found

    def check(self, text: str) -> None:
        """Check that a reply answers the questions (see `OutputType.check`)."""
        read_answers(self.questions, text.encode())


def read_answers(questions: Sequence[DecisionQuestion], text: bytes) -> dict[str, DecisionAnswer | None]:
    """Return the answer to each question, or None for a refused one.

    Raises:
        Misread: If a question has no answer, or an invalid one.
    """
    try:
        said = orjson.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Misread("the answers are no JSON object")
    return {question.name: _answer(question, said) for question in questions}


def _answer(question: DecisionQuestion, said: Mapping[str, Any]) -> DecisionAnswer | None:
    if question.name not in said:
        raise Misread(f"there is no answer to the question {question.name!r}")
    given = said[question.name]
    if given is None:
        return None
    stated = given.get("p") if isinstance(given, dict) else None
    if not isinstance(stated, dict):
        raise Misread(f"the answer to {question.name!r} has no probabilities, but {orjson.dumps(given).decode()[:80]}")
    options: Sequence[str] = question.options
    if question.kind == "scale" and stated.keys() != set(options):  # servers name levels by position, or by label
        options = [str(at) for at in range(len(options))]
    if stated.keys() != set(options):
        odd = sorted(stated.keys() ^ set(options))
        raise Misread(f"the answer to {question.name!r} has other options than the question: {', '.join(odd)[:200]}")
    shown = [stated[option] for option in options]
    numbers = [one for one in shown if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) < len(shown):
        raise Misread(f"the probabilities of {question.name!r} are not all numbers")
    p = tuple(map(float, numbers))
    slack = min(max(_LEAST_SLACK, _SLACK_OF_OPTION * len(p)), _MOST_SLACK) + _FLOAT_ERROR
    if not all(0 <= one <= 1 for one in p) or abs(sum(p) - 1) > slack:
        raise Misread(f"the probabilities of {question.name!r} add up to {sum(p):.3g}, not to 1")
    most, choice = max(p), given.get("choice")
    if choice is None:
        return DecisionAnswer(p, p.index(most))
    if not isinstance(choice, str) or choice not in stated or p[options.index(choice)] < most:
        raise Misread(f"{question.name!r} is answered by {str(choice)[:80]!r}, which is not the most probable option")
    return DecisionAnswer(p, options.index(choice))
