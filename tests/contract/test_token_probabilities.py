"""Token probabilities over the wire: asked for, read, kept in a short form, and paid for once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Literal

import orjson
import pandas as pd
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.providers.quirks import Quirks
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.scripts import words
from tests.contract.sides import ANTHROPIC, COMPATIBLE, GOOGLE, OPENAI, RESPONSES, Side, reach

# A model that Responses alone serves, and that does not reason unless it is asked to.
CODEX = replace(RESPONSES, name="gpt-5.1-codex")
GIVING = [OPENAI, CODEX, GOOGLE, COMPATIBLE]


pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Inner(BaseModel):
    ok: bool


class Review(BaseModel):
    """Facts."""

    mood: Literal["negative", "neutral", "positive"]
    stars: int = Field(ge=1, le=5)
    fixed: Literal["only"]
    labels: list[Literal["a", "b"]]
    inner: Inner
    summary: str


VALUE = {"mood": "negative", "stars": 4, "fixed": "only", "labels": ["a"], "inner": {"ok": True}, "summary": "é {"}
TOLD: dict[str, dict[str, float]] = {
    "mood": {"negative": 0.6, "neutral": 0.3, "positive": 0.1},
    "stars": {"4": 0.5, "5": 0.25, "1": 0.25},
}


def told(request: SimRequest) -> SimAnswer:
    return SimAnswer.value(VALUE, probabilities=TOLD)


def ask(model: str, *texts: str, **options: Any) -> pd.DataFrame:
    # OpenAI's models give them without reasoning alone.
    effort = {"effort": "none"} if model == OPENAI.model else {}
    options = {"probabilities": True} | effort | options
    out: pd.DataFrame = words(*(texts or ("one",))).llm.parse(Review, "How is {text}?", model=model, **options)
    return out


@pytest.mark.parametrize("giving", GIVING, ids=lambda side: side.id)
def test_a_model_s_own_probabilities_are_those_of_the_tokens(
    giving: Side, sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(giving, sim, monkeypatch)
    sim.set(answers=told)

    out = ask(giving.model, confidence_column="sure")

    assert sim.stats().requests == 1
    assert out["sure"].tolist() == pytest.approx([0.5], abs=1e-6)
    for _ in range(2):
        lines = out.llm.probabilities
        found = {
            (field, option): p for field, option, p in zip(lines["field"], lines["option"], lines["p"], strict=True)
        }
        for name, options in TOLD.items():
            assert {option: found[name, option] for option in options} == pytest.approx(options, abs=1e-6)
        assert found["stars", "2"] == 0
        assert found["fixed", "only"] == 1
        assert set(lines["model"]) == {giving.model}
        assert set(lines["source"][lines["field"] == "fixed"]) == {"fixed"}
        assert set(lines["source"][lines["field"] == "mood"]) == {"logprobs"}
        assert lines["mass"][lines["field"] == "mood"].tolist() == pytest.approx([1, 1, 1], abs=1e-6)
        sure = out.llm.confidence
        assert sure.columns.tolist() == ["mood", "stars", "fixed", "labels", "inner.ok", "summary"]
        assert sure[["mood", "stars", "fixed"]].iloc[0].tolist() == pytest.approx([0.6, 0.5, 1], abs=1e-6)
        assert sure[["labels", "summary"]].isna().all(axis=None)
        run_registry.forget_all()  # and as a new kernel has it
    reply = str(pllm.run(out.attrs["pllm_run"]).reply(0))
    assert "pllm_tokens" in reply
    assert "top_logprobs'" not in reply.replace("'top_logprobs': 20", "")


def test_the_question_has_the_key_of_a_plain_one(luna: str) -> None:
    frame = words("one")

    plain = frame.llm.request_lines(Review, "{text}", model=luna, effort="none")
    asked = frame.llm.request_lines(Review, "{text}", model=luna, effort="none", probabilities=True)

    (one,), (other,) = ([orjson.loads(line) for line in lines] for lines in (plain, asked))
    assert one["custom_id"] == other["custom_id"]
    assert {name: value for name, value in other["body"].items() if name not in one["body"]} == {
        "logprobs": True,
        "top_logprobs": 20,
    }


def test_a_reply_with_probabilities_serves_plain_calls(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)
    ask(luna)

    out = ask(luna, probabilities=None)

    assert out["mood"].tolist() == ["negative"]
    assert sim.stats().requests == 1
    with pytest.raises(PllmError, match="This run has no probabilities"):
        out.llm.confidence  # noqa: B018


def test_a_plain_reply_keeps_its_value_and_probabilities_cost_a_call(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.value(VALUE | {"mood": "positive"}))
    ask(luna, "one", "two", probabilities=None)
    sim.set(answers=told)
    estimate = words("one", "two", "three").llm.estimate(
        Review, "How is {text}?", model=luna, effort="none", probabilities=True
    )

    asked = ask(luna, "one", "two")
    again = ask(luna, "one", "two")
    plain = ask(luna, "one", "two", probabilities=None)

    assert (estimate.cached, estimate.calls) == (0, 3)
    assert sim.stats().requests == 4
    assert asked["mood"].tolist() == again["mood"].tolist() == ["negative", "negative"]
    assert again.llm.status.tolist() == ["cached", "cached"]
    assert again.llm.confidence["mood"].tolist() == pytest.approx([0.6, 0.6], abs=1e-6)
    assert plain["mood"].tolist() == ["positive", "positive"]
    only = ask(luna, "one", cache="only")
    assert only["mood"].tolist() == ["negative"]


def test_with_the_cache_alone_a_plain_reply_is_the_answer_without_a_probability(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)
    ask(luna, probabilities=None)

    out = ask(luna, cache="only", confidence_column="sure")

    assert out["mood"].tolist() == ["negative"]
    assert out["sure"].tolist() == [1]  # of the field that has one option
    assert out.llm.confidence["mood"].isna().all()


def test_without_a_cache_the_probabilities_are_those_in_memory(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)

    out = ask(luna, cache="off")

    assert out.llm.confidence["mood"].tolist() == pytest.approx([0.6], abs=1e-6)


def test_a_model_that_refuses_is_remembered_and_the_error_names_the_other_ways(luna: str, sim: Simulator) -> None:
    sim.set(answers=told, unsupported_parameters=["logprobs"])

    (message,) = ask(luna).llm.errors["message"]
    assert re.search(r"logprobs.* probabilities='samples' with samples=5.*another model", message)
    sent = sim.stats().requests
    with pytest.raises(UsageError, match=r"gives no token probabilities\. .*probabilities='samples'.*Nothing was sent"):
        ask(luna)

    assert sim.stats().requests == sent
    assert ask(luna, probabilities=None)["mood"].tolist() == ["negative"]


def test_a_model_that_is_known_to_give_none_is_an_error_before_anything_is_sent(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(ANTHROPIC, sim, monkeypatch)

    with pytest.raises(UsageError, match=r"claude-haiku-5-5 gives no token probabilities\. Two other ways"):
        ask(ANTHROPIC.model)
    with pytest.raises(UsageError, match=r"gives no token probabilities while it reasons; with effort='none' it may"):
        ask(luna, effort=None)

    assert sim.stats().requests == 0


def test_what_a_model_gives_without_reasoning_says_nothing_of_reasoning(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)
    ask(luna)
    sent = sim.stats().requests

    with pytest.raises(UsageError, match=r"while it reasons; with effort='none' it may"):
        ask(luna, "two", effort=None)
    assert sim.stats().requests == sent

    assert ask(luna, "two").llm.confidence["mood"].notna().all()


def test_a_refusal_is_remembered_for_the_effort_that_was_asked(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(COMPATIBLE, sim, monkeypatch)
    sim.set(
        answers=lambda request: (
            told(request)
            if request.body.get("reasoning_effort") == "low"
            else SimAnswer.status(400, body={"error": {"message": "no logprobs", "param": "logprobs"}})
        )
    )

    assert ask(COMPATIBLE.model)["mood"].isna().all()
    with pytest.raises(UsageError, match=r"gives no token probabilities"):
        ask(COMPATIBLE.model)

    assert ask(COMPATIBLE.model, effort="low")["mood"].tolist() == ["negative"]


@pytest.mark.parametrize("options", [{"samples": 3}, {"pack": 2}, {"models": ["openai:gpt-6-luna", "google:gemini-3"]}])
def test_token_probabilities_are_of_one_answer_in_a_call_of_its_own(luna: str, options: dict[str, Any]) -> None:
    (name,) = options

    with pytest.raises(UsageError, match=rf"Leave {name}= out, or pass probabilities='samples'.*Nothing was sent"):
        ask(luna, **options)


def test_a_server_that_ignores_the_request_for_them_is_noticed_after_a_few_replies() -> None:
    ignoring, giving = Quirks(), Quirks()
    giving.note_tokens(has_any=True)
    for _ in range(3):
        assert ignoring.gives_tokens is None
        for quirks in (ignoring, giving):
            quirks.note_tokens(has_any=False)

    assert (ignoring.gives_tokens, giving.gives_tokens) == (False, True)


@pytest.mark.parametrize(
    "odd", [{"content": [{"token": 5}]}, {"content": "x"}, [], {"content": [{"token": "a", "logprob": "b"}]}], ids=str
)
def test_tokens_that_are_odd_cost_no_answer(luna: str, sim: Simulator, odd: Any) -> None:
    content = '{"mood":"neutral","stars":1,"fixed":"only","labels":[],"inner":{"ok":true},"summary":""}'
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "logprobs": odd, "finish_reason": "stop"}
    sim.set(answers=lambda request: SimAnswer.status(200, body={"id": "x", "choices": [choice]}))

    out = ask(luna)

    assert out["mood"].tolist() == ["neutral"]
    assert out.llm.confidence["mood"].isna().all()
