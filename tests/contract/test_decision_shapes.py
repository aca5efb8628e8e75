"""Requests and replies of decision endpoints as the SDKs' own types and the servers' documentation have them.

Shapes are those of openai/types/decision_create_params.py and decision.py, google/genai/_gaos/types/decisions, of
docs.litellm.ai/docs/decisions/systemone_format and developers.cloudflare.com/ai/models/typesafe/jev (System One), of
docs.fireworks.ai/api-reference/post-decisions, and of docs.sglang.io/docs/supported-models/decision_models.
"""

from __future__ import annotations

from typing import Any, Literal

import orjson
import pytest
from openai.types.decision import Decision
from openai.types.decision_create_params import DecisionCreateParams
from pydantic import BaseModel, Field, TypeAdapter

import pllm_notebook as pllm
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import words

from .test_decisions import GOOGLE, TOLD, Decided, decided, reach_all, told


class Ticket(BaseModel):
    refund: bool
    urgency: Literal["low", "high"]
    frustration: int = Field(ge=1, le=3)


CHOICE = {"type": "choice", "choice": "high", "confidence": 0.9, "probabilities": {"low": 0.05, "high": 0.95}}
SCORE = {"type": "score", "score": 1.7, "confidence": 0.6, "legend": {"0": "1", "1": "2", "2": "3"},
         "probabilities": {"0": 0.1, "1": 0.1, "2": 0.8}}  # fmt: skip
EVEN = {"high": 0.5, "low": 0.5}
DOCUMENTED: dict[str, dict[str, Any]] = {
    "jev": {
        "model": "jev-1.13.0",
        "answers": {"refund": {"type": "noul", "noul": 0.99}, "urgency": CHOICE, "frustration": SCORE},
        "usage": {"input_tokens": 170, "output_tokens": 0},
    },
    "fire": {
        "id": "dec_1", "object": "decision", "created_at": 1_795_000_000, "model": "accounts/a/models/m",
        "answers": [
            {"type": "predicate", "name": "refund", "probability": 0.99},
            {"type": "choice", "name": "urgency", "choice": "high", "confidence": 0.9,
             "probabilities": [{"value": "low", "probability": 0.05}, {"value": "high", "probability": 0.95}]},
            {"type": "score", "name": "frustration", "score": 1.7, "confidence": 0.6, "probabilities": [
                {"value": at, "label": label, "probability": p}
                for at, label, p in ((0, "1", 0.1), (1, "2", 0.1), (2, "3", 0.8))]},
        ],
        "usage": {"input_tokens": 170, "output_tokens": 0, "total_tokens": 170},
    },
    "sgl": {
        "id": "dec-1", "model": "qwen",
        "answers": {
            "refund": {"probabilities": {"yes": 0.99, "no": 0.01}, "label_mass": 0.98},
            "urgency": {"probabilities": {"low": 0.05, "high": 0.95}, "label_mass": 0.97},
            "frustration": {"probabilities": {"1": 0.1, "2": 0.1, "3": 0.8}, "label_mass": 0.9},
        },
        "usage": {"prompt_tokens": 170, "completion_tokens": 0, "total_tokens": 170},
    },
}  # fmt: skip


@pytest.mark.parametrize("server", DOCUMENTED)
def test_a_documented_reply_is_read(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=lambda request: SimAnswer.status(200, body=DOCUMENTED[server]))

    out = words("one").llm.parse(Ticket, "{text}", model=f"{server}:model", probabilities="decisions")

    assert out[["refund", "urgency", "frustration"]].iloc[0].tolist() == [True, "high", 3]
    assert out.llm.confidence.iloc[0].tolist() == pytest.approx([0.99, 0.95, 0.8])
    assert pllm.runs()[-1].progress().input_tokens == 170


def chosen(server: str, choice: dict[str, Any], shares: dict[str, float] | None) -> SimAnswer:
    """A server's documented reply with another answer to the question about urgency."""
    given, kind = DOCUMENTED[server]["answers"], {"type": "choice"}
    if server == "jev":
        answers: Any = given | {"urgency": kind | choice | {"probabilities": shares}}
    else:
        listed = None if shares is None else [{"value": name, "probability": p} for name, p in shares.items()]
        other = kind | {"name": "urgency"} | choice | {"probabilities": listed}
        answers = [other if one["name"] == "urgency" else one for one in given]
    return SimAnswer.status(200, body=DOCUMENTED[server] | {"answers": answers})


@pytest.mark.parametrize("choice", [{}, {"choice": None}], ids=["absent", "null"])
@pytest.mark.parametrize("server", ["jev", "fire"])
def test_a_reply_that_names_no_choice_is_answered_by_its_probabilities(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch, server: str, choice: dict[str, Any]
) -> None:
    reach_all(sim, monkeypatch)
    shares = {"one": {"low": 0.05, "high": 0.95}, "a tie": EVEN}
    sim.set(answers=lambda request: chosen(server, choice, shares[request.prompt]))

    out = words(*shares).llm.parse(Ticket, "{text}", model=f"{server}:model", probabilities="decisions")

    assert out["urgency"].tolist() == ["high", "low"]
    assert out["frustration"].tolist() == [3, 3]
    assert out.llm.confidence["urgency"].tolist() == [0.95, 0.5]


@pytest.mark.filterwarnings("ignore:.*rows failed")
@pytest.mark.parametrize(
    ("choice", "shares", "said"),
    [
        ({}, None, "other options than the question"),
        ({"choice": None}, {}, "other options than the question"),
        ({"choice": "high"}, None, "other options than the question"),
        ({"choice": ""}, EVEN, "not the most probable option"),
        ({"choice": 1}, EVEN, "choice is a number, not text"),
        ({"choice": True}, EVEN, "choice is true or false, not text"),
        ({"choice": ["high"]}, EVEN, "choice is a list, not text"),
    ],
)
@pytest.mark.parametrize("server", ["jev", "fire"])
def test_a_choice_that_is_no_option_is_malformed(
    luna: str,
    sim: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    choice: dict[str, Any],
    shares: dict[str, float] | None,
    said: str,
) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=lambda request: chosen(server, choice, shares))

    out = words("one").llm.parse(Ticket, "{text}", model=f"{server}:model", probabilities="decisions", max_retries=0)

    ((kind, message),) = out.llm.errors[["kind", "message"]].to_numpy().tolist()
    assert kind == "malformed_reply"
    assert said in message


def test_a_body_is_one_that_openai_s_request_types_have(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)

    decided(Decided, system="Be strict.")

    (request,) = sim.requests()
    assert has_only_known(DecisionCreateParams, request["body"])


def test_a_body_is_one_that_google_s_request_types_have(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here, and not above: each process that collects the tests would import it, for half a second.
    from google.genai._gaos.types.decisions.createdecisionrequest import CreateDecisionRequest

    reach_all(sim, monkeypatch)
    sim.set(answers=told)

    decided(Decided, model=GOOGLE)

    (request,) = sim.requests()
    made = CreateDecisionRequest.model_validate(request["body"])
    assert set(made.questions) == {"mood", "stars", "again", "gift", "topics.price", "topics.size", "inner.ok"}


def test_the_simulator_s_replies_are_those_of_the_sdk_s_response_types(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.genai._gaos.types.decisions.createdecisionresponse import CreateDecisionResponse

    reach_all(sim, monkeypatch)
    sim.set(answers=told)

    raw = [decided(Decided, model=model).llm.run.explain(0).reply for model in (luna, GOOGLE)]

    openai_s = Decision.model_validate(raw[0])
    google_s = CreateDecisionResponse.model_validate(raw[1])
    assert [answer.type for answer in openai_s.answers][:3] == ["choice", "score", "predicate"]
    assert google_s.answers is not None
    assert google_s.answers["mood"].probabilities == TOLD["mood"]


def has_only_known(kind: Any, body: dict[str, Any]) -> bool:
    """Return whether a body fits a type of the SDK's, and nothing of it is lost on the way through."""
    made = TypeAdapter(kind).validate_python(body)
    return bool(orjson.loads(TypeAdapter(kind).dump_json(made)) == body)
