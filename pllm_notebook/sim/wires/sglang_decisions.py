"""The format of SGLang's decision endpoint, which reads its answers from the probabilities of one token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.sim.decision_author import YES_NO, SimQuestion
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.wire_types import GeneratedAnswer, ParsedRequest, Rejected, Tokens, WireConversation
from pllm_notebook.sim.wires.named_decisions import SystemOneDecisions

__all__ = ["SGLangEndpoint"]

_PARAMETERS = frozenset({"model", "input", "questions", "temperature", "prompt_format_version"})
_FIELDS = frozenset({"id", "type", "question", "options", "levels"})
_MOST_OPTIONS, _MOST_LEVELS = 26, 10


class SGLangEndpoint(SystemOneDecisions):
    """POST /v1/decisions."""

    def read(self, body: dict[str, Any], model: str, options: SimOptions) -> ParsedRequest:
        """Check a body as the server does. Unknown fields are rejected with a 400."""
        unknown = sorted(body.keys() - _PARAMETERS)
        unknown += sorted({name for each in body["questions"] for name in each} - _FIELDS)
        if unknown:
            raise Rejected(400, f"Extra inputs are not permitted: {unknown[0]}", param=unknown[0])
        said = WireConversation()
        said.messages.append(("user", str(body["input"])))
        # The input's tokens count once for each question.
        said.called += [orjson.dumps(each).decode() for each in body["questions"]]
        said.called += [str(body["input"])] * (len(body["questions"]) - 1)
        questions = [_question(each) for each in body["questions"]]
        return ParsedRequest("compatible", str(body["model"]), body, said, questions=questions)

    def write(self, ask: ParsedRequest, made: GeneratedAnswer, tokens: Tokens, number: str) -> bytes:
        """Return the probabilities of each question by its id. A refused question has none."""
        decided = {question: made.decided[question.name] for question in ask.questions}
        answers = {
            question.name: {"probabilities": _shares(question, p), "label_mass": 0.97}
            for question, p in decided.items()
            if p is not None
        }
        usage = {"prompt_tokens": tokens.input, "completion_tokens": 0, "total_tokens": tokens.input}
        return orjson.dumps({"id": f"dec-{number}", "model": ask.model, "answers": answers, "usage": usage})


def _question(given: Mapping[str, Any]) -> SimQuestion:
    if not given.get("question"):
        raise Rejected(400, "Field required: question", param="question")
    if given["type"] == "yes_no":
        return SimQuestion(given["id"], YES_NO, is_yes_no=True)
    is_scale = given["type"] == "score"
    options = tuple(given["levels"]) if is_scale else tuple(each["name"] for each in given["options"])
    most = _MOST_LEVELS if is_scale else _MOST_OPTIONS
    if not 2 <= len(options) <= most:
        raise Rejected(400, f"{given['id']} has 2 to {most} options.", param=given["id"])
    return SimQuestion(given["id"], options)


def _shares(question: SimQuestion, p: Sequence[float]) -> dict[str, float]:
    names = ("yes", "no") if question.is_yes_no else question.options
    return dict(zip(names, p, strict=True))
