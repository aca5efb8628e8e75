"""Decision endpoints, which answer questions about one input with a probability for every option.

A provider's decision endpoint is in its `Provider`, with a `DecisionWire` as its wire format. The caller's own servers
use one of the formats in `registry.decision_endpoints`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import DecisionQuestion, Media, Request
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers import typed
from pllm_notebook.types import LimitReport, RawReply, Reply

__all__ = [
    "DecisionEndpoint",
    "DecisionWire",
    "Input",
    "answer",
    "encoded",
    "instructed",
    "listed",
    "named_answers",
    "named_questions",
    "predicate",
    "shown",
]

_Stated = dict[str, Any]
"""An answer in the form that `schema.read_answers` reads."""

Input = tuple[str, tuple[Media, ...]]
"""The input to be judged: its text and its media."""


@dataclass(frozen=True, kw_only=True)
class DecisionEndpoint:
    """The decision endpoint of a provider, or of servers with the same format.

    Attributes:
        wire: Its wire format.
        title: Its name in sentences.
        model: The model to call if the user names none; "" for servers, whose own model is called.
        price_provider: Its provider id in genai-prices, "" if that has no prices for it.
        most_questions: Maximum number of questions in one request; more are split over several requests.
        most_options: Maximum number of options of one question.
        most_question_bytes: Maximum size of all questions in one request together; None if no relevant limit is known.
    """

    wire: DecisionWire
    title: str
    model: str = ""
    price_provider: str = ""
    most_questions: int = 400
    most_options: int = 255
    most_question_bytes: int | None = None

    def split(self, questions: Sequence[DecisionQuestion], shared: str | None) -> list[tuple[DecisionQuestion, ...]]:
        """Split questions into as few requests as the limits allow, in order.

        Args:
            questions: All questions.
            shared: Text that is repeated before each question, for an endpoint whose input has no roles; None if there
                is no such text.
        """
        before = 0 if shared is None else len(shared.encode())
        made: list[list[DecisionQuestion]] = []
        held = 0
        for question in questions:
            size = before + sum(
                len(text.encode()) for text in (question.instructions, *question.options, *question.notes)
            )
            full = bool(made) and len(made[-1]) == self.most_questions
            if not made or full or (self.most_question_bytes is not None and held + size > self.most_question_bytes):
                made.append([])
                held = 0
            made[-1].append(question)
            held += size
        return [tuple(part) for part in made]


class DecisionWire(ABC):
    """Base class for the wire formats of decision endpoints (see `protocols.Wire`)."""

    model_in_path = False
    reply_fields = ("answers",)
    keywords = None
    input_field = "input"
    format_name: str

    @abstractmethod
    def path(self, model: str) -> str:
        """Return the URL path below the base address."""

    @abstractmethod
    def encode(self, request: Request) -> dict[str, Any]:
        """Build the intended body: first the questions, then the input."""

    @abstractmethod
    def decode(self, body: Mapping[str, Any]) -> Reply:
        """Decode the body of a status 200; the reply's text has the form that `schema.read_answers` reads."""

    @abstractmethod
    def error_from(self, raw: RawReply) -> Failure:
        """Return the failure for a response with a status other than 200."""

    def relax_schema(self, body: Mapping[str, Any], schema_level: int) -> dict[str, Any]:
        return dict(body)

    def prefix(self, body: Mapping[str, Any], shown: int = 0) -> list[Any]:
        return []

    def mark_prompt_cache(
        self, body: Mapping[str, Any], name: str | None, lead: str, *, turns: bool = False, shown: int = 0
    ) -> dict[str, Any]:
        return dict(body)

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        return None

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        return None


def named_questions(request: Request) -> dict[str, dict[str, Any]]:
    """Return the questions by name, in the format of System One, which Google's endpoint uses too."""
    made: dict[str, dict[str, Any]] = {}
    for question in request.questions:
        asked = {"instructions": instructed(request, question)}
        if question.kind == "predicate":
            made[question.name] = {"type": "noul", **asked}
        elif question.kind == "scale":
            made[question.name] = {"type": "score", **asked, "criteria": list(question.options)}
        else:
            made[question.name] = {"type": "choice", **asked, "criteria": dict(question.described)}
    return made


def named_answers(answers: Any) -> str:
    """Return the text of a reply for answers by name in the format of System One.

    Raises:
        MalformedReply: If an answer is not as documented.
    """
    made: dict[str, _Stated | None] = {}
    for name, given in typed.mapping(answers, "answers").items():
        about = typed.mapping(given, f"the answer to {name[:80]}")
        kind = about.get("type")
        if kind == "noul":
            made[name] = predicate(about.get("noul"))
        elif kind == "choice":
            made[name] = answer(typed.mapping(about.get("probabilities"), "probabilities"), about.get("choice"))
        elif kind == "score":
            made[name] = answer(typed.mapping(about.get("probabilities"), "probabilities"))
        else:
            raise MalformedReply(f"an answer of the type {str(kind)[:80]!r}")
    return encoded(made)


def shown(request: Request) -> Input:
    """Return the input to be judged: the user's only turn.

    Raises:
        UsageError: If the request is a conversation. Nothing was sent.
    """
    if len(request.turns) != 1 or request.turns[0].role != "user":
        raise UsageError("A decision endpoint judges one input, not a conversation. Nothing was sent.")
    return request.turns[0].text, request.turns[0].media


def instructed(request: Request, question: DecisionQuestion) -> str:
    """Return the instructions of all questions followed by this question's, for an endpoint without roles."""
    return f"{request.system}\n\n{question.instructions}" if request.system else question.instructions


def answer(p: Mapping[str, Any], choice: Any = None) -> _Stated:
    """Return an answer from the probability of each option.

    Args:
        p: Probability of each option, by the option's name.
        choice: The option that the endpoint chose, as decoded; None if it names none. The most probable option, the
            first of equals, is then the answer.

    Raises:
        MalformedReply: If a probability is not a number, or the choice not text.
    """
    stated: _Stated = {"p": {name: _number(one, name) for name, one in p.items()}}
    # A missing choice is not "", which is no option: the reply would be lost although its probabilities answer.
    return stated if choice is None else stated | {"choice": typed.text(choice, "choice")}


def predicate(probability: Any) -> _Stated:
    """Return the answer to a predicate from its probability of being true. Raises as `answer` does."""
    p = _number(probability, "a predicate")
    return answer({"true": p, "false": 1 - p})


def listed(probabilities: Any, name: str) -> dict[str, Any]:
    """Return the probability of each option from a list of objects with a `probability` each.

    Args:
        probabilities: The list, as decoded.
        name: Field of each object that holds the option's name.

    Raises:
        MalformedReply: If it is not a list of objects, or an option appears twice.
    """
    given: Sequence[Mapping[str, Any]] = typed.mappings(probabilities, "probabilities")
    made = {str(one.get(name)): one.get("probability") for one in given}
    if len(made) < len(given):
        raise MalformedReply("an option has two probabilities")
    return made


def encoded(answers: Mapping[str, _Stated | None]) -> str:
    """Return answers by question as the text of a reply: JSON, with null for a refused question."""
    return orjson.dumps(answers).decode()


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MalformedReply(f"the probability of {what[:80]} is {str(value)[:80]!r}, not a number")
    return float(value)
