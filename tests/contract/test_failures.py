"""A row that fails fails alone, says why in one of a few words, and is not paid for twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import genai_prices
import pandas as pd
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.exceptions import RowError
from pllm_notebook.execution import live_of, run_registry
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import InTurn, by_word, words
from tests.contract.sides import RESPONSES, Side

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Fact(BaseModel):
    name: str
    score: int = Field(ge=1, le=5)


GOOD = {"name": "n", "score": 3}
USAGE = {"input_tokens": 500, "output_tokens": 40}

# What the model does, the failure's kind and the raw text that is kept. Google reports a refusal as a
# blocked answer, Anthropic a blocked answer as a refusal, and neither keeps the words.
PAID: dict[str, tuple[SimAnswer, str, str]] = {
    "refusal": (SimAnswer.refusal("I will not."), "refusal", ""),
    "filtered": (SimAnswer.filtered(), "content_filter", ""),
    "truncated": (SimAnswer.truncated('{"name": "n'), "truncated", '{"name": "n'),
    "invalid_json": (SimAnswer.text("A name is n."), "invalid_json", "A name is n."),
    "schema": (SimAnswer.text('{"name":"n","score":9}'), "schema", '{"name":"n","score":9}'),
}
OTHERWISE = {
    ("google", "refusal"): "content_filter",
    ("anthropic", "filtered"): "refusal",
    # An error page that calls itself JSON is read by Google's SDK before anyone sees its status.
    ("google", "502 page"): "malformed_reply",
}


@pytest.mark.sample(9)
@pytest.mark.parametrize("what", PAID)
def test_a_reply_that_is_no_answer_fails_its_row_alone_and_keeps_what_was_paid(
    side: Side, sim: Simulator, what: str
) -> None:
    reply, kind, raw = PAID[what]
    sim.set(answers=by_word({"bad": replace(reply, usage=USAGE)}, lambda request: GOOD))

    out = words("good 1", "bad", "good 2").llm.parse(Fact, "{text}", model=side.model, max_repairs=0)

    (failed,) = out.llm.errors.to_dict("records")
    assert out["name"].isna().tolist() == [False, True, False]
    assert out.llm.status.tolist() == ["ok", "failed", "ok"]
    assert (failed["position"], failed["label"], failed["attempts"]) == (1, 1, 1)
    assert (failed["kind"], failed["raw"]) == (OTHERWISE.get((side.wire, what), kind), raw)
    assert out.llm.usage["input_tokens"][1] == 500
    if side.priced:
        # A prompt that Google blocks brings no output to pay for.
        output = 0 if (side.wire, what) == ("google", "filtered") else 40
        price = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=500, output_tokens=output), side.name, provider_id=side.priced
        )
        assert failed["cost_usd"] == pytest.approx(float(price.total_price), rel=1e-12)
        assert out.llm.usage["cost_usd"][1] == failed["cost_usd"]


@pytest.mark.sample(9)
@pytest.mark.parametrize("what", PAID)
def test_a_paid_failure_is_not_paid_for_again(side: Side, sim: Simulator, what: str) -> None:
    sim.set(answers=by_word({"bad": PAID[what][0]}, lambda request: GOOD))
    frame = words("good", "bad")
    first = frame.llm.parse(Fact, "{text}", model=side.model, max_repairs=0)
    sim.reset()

    again = frame.llm.parse(Fact, "{text}", model=side.model, max_repairs=0)

    assert sim.stats().requests == 0
    assert again.llm.status.tolist() == ["cached", "failed"]
    told, before = again.llm.errors, first.llm.errors
    pd.testing.assert_frame_equal(told.drop(columns="message"), before.drop(columns="message"))
    (message,), (kind,) = told["message"], told["kind"]
    assert message.startswith(before["message"].iloc[0])
    assert message.endswith(f" UTC and not paid for again; run.retry(kinds=['{kind}']) or cache='refresh' asks again.")


def test_a_kept_failure_that_is_raised_names_no_run_to_retry(luna: str, sim: Simulator) -> None:
    sim.set(answers=by_word({"bad": PAID["refusal"][0]}, lambda request: GOOD))
    frame = words("bad")
    frame.llm.parse(Fact, "{text}", model=luna, max_repairs=0)

    with pytest.raises(RowError) as raised:
        frame.llm.parse(Fact, "{text}", model=luna, max_repairs=0, errors="raise")

    assert "run.retry" not in str(raised.value)
    assert " UTC and not paid for again; cache='refresh' asks again." in str(raised.value)
    assert ". Kept since " in str(raised.value)


@pytest.mark.sample(9)
@pytest.mark.parametrize("what", PAID)
def test_a_paid_failure_is_paid_for_again_when_it_is_named(side: Side, sim: Simulator, what: str) -> None:
    sim.set(answers=by_word({"bad": PAID[what][0]}, lambda request: GOOD))
    run = words("good", "bad").llm.submit(Fact, "{text}", model=side.model, max_repairs=0)
    run.wait()
    (kind,) = run.errors["kind"]
    sim.set(answers=lambda request: GOOD)
    sim.reset()

    unnamed = run.retry().result().llm.status.tolist()
    before = sim.stats().requests
    named = run.retry([kind]).result()

    assert (before, unnamed) == (0, ["ok", "failed"])
    assert (sim.stats().requests, named["name"].tolist()) == (1, ["n", "n"])


def test_the_message_of_a_truncation_names_the_limit(hosted: Side, sim: Simulator) -> None:
    out = words("a").llm.complete("say {text}", model=hosted.model, max_output_tokens=16)
    short = sim.stats().output_tokens
    sim.set(answers=lambda request: "x" * 4000)

    out = words("b").llm.complete("say {text}", model=hosted.model, max_output_tokens=16)

    assert short <= 16
    assert out.llm.errors["message"].tolist() == [
        "The reply was cut off at the output limit of 16 tokens. Give a larger max_output_tokens."
    ]
    assert out.llm.errors["raw"].tolist() == ["x" * 64]


def test_the_message_of_a_refusal_has_the_models_words(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.refusal("I will not."))
    told = {
        "anthropic": "The model refused: general_harms.",
        "google": "The provider's content filter stopped the reply: SAFETY.",
    }

    out = words("a").llm.complete("say {text}", model=side.model)

    assert out.llm.errors["message"].tolist() == [told.get(side.wire, "The model refused: I will not.")]


def test_a_reply_that_calls_a_tool_and_says_nothing_is_no_answer(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.tool_calls([("get_weather", {"city": "Leeds"})]))

    out = words("a").llm.complete("say {text}", model=side.model)
    again = words("a").llm.complete("say {text}", model=side.model)

    assert sim.stats().requests == 1
    for frame in (out, again):
        assert frame.llm.errors["kind"].tolist() == ["tool_call"]
        assert frame.llm.errors["message"].iloc[0].startswith("The model called get_weather in place of an answer")


def test_a_whole_answer_beside_a_call_that_nothing_offered_is_the_answer(side: Side, sim: Simulator) -> None:
    content = '{"name":"n","score":3}'
    sim.set(answers=lambda request: SimAnswer.tool_calls([("get_weather", {"city": "Leeds"})], content=content))

    out = words("a").llm.parse(Fact, "say {text}", model=side.model)
    again = words("a").llm.parse(Fact, "say {text}", model=side.model)

    assert (out["score"].tolist(), again["score"].tolist()) == ([3], [3])
    assert (out.llm.status.tolist(), again.llm.status.tolist()) == (["ok"], ["cached"])
    assert sim.stats().requests == 1
    run_registry.forget_all()
    assert pllm.run(out.attrs["pllm_run"]).to_frame()["score"].tolist() == [3]


@pytest.mark.parametrize("content", ["I will look that up.", '{"name":"n","score":9}', '{"name":"n"'])
def test_words_beside_a_call_that_are_no_whole_answer_are_none(side: Side, sim: Simulator, content: str) -> None:
    sim.set(answers=lambda request: SimAnswer.tool_calls([("get_weather", {})], content=content))

    out = words("a").llm.parse(Fact, "say {text}", model=side.model)

    assert out.llm.errors["kind"].tolist() == ["tool_call"]
    assert sim.stats().requests == 1


# What goes wrong on the way, and the failure's kind. None of these is an answer.
PASSING: dict[str, tuple[Any, str]] = {
    "429": (SimAnswer.status(429, {"retry-after": "0"}), "rate_limit"),
    "503": (SimAnswer.status(503), "overloaded"),
    "529": (SimAnswer.status(529), "overloaded"),
    "500": (SimAnswer.status(500), "server_error"),
    "502 page": (SimAnswer.status(502, body="<html>Bad Gateway</html>"), "server_error"),
    "408": (SimAnswer.status(408), "timeout"),
    "409": (SimAnswer.status(409), "server_error"),
    "reset": (SimAnswer.reset(), "connection"),
    "hang": (SimAnswer.hang(), "timeout"),
    "not JSON": (SimAnswer.malformed(), "malformed_reply"),
    "200 page": (SimAnswer.status(200, body="<html>Hello</html>"), "malformed_reply"),
    "a list": (SimAnswer.status(200, body=[1, 2]), "malformed_reply"),
    "another object": (SimAnswer.status(200, body={"hello": "world"}), "malformed_reply"),
    "empty body": (SimAnswer.status(200, body=""), "malformed_reply"),
}


@pytest.mark.sample(12)
@pytest.mark.parametrize("what", PASSING)
def test_what_can_pass_fails_its_row_alone_and_is_sent_again_by_the_next_run(
    side: Side, sim: Simulator, what: str
) -> None:
    fault, kind = PASSING[what]
    frame = words("good 1", "bad", "good 2")
    sim.set(answers=by_word({"bad": fault}, lambda request: GOOD))
    frame.iloc[[0, 2]].llm.parse(Fact, "{text}", model=side.model)

    timeout_s = 5.0 if what == "hang" else 60.0  # long enough for a busy machine to read the request
    failing = frame.llm.parse(Fact, "{text}", model=side.model, max_retries=0, timeout_s=timeout_s)
    sent = sim.stats().requests
    sim.set(answers=lambda request: GOOD)
    healed = frame.llm.parse(Fact, "{text}", model=side.model)

    assert failing.llm.status.tolist() == ["cached", "failed", "cached"]
    assert failing.llm.errors["kind"].tolist() == [OTHERWISE.get((side.wire, what), kind)]
    assert failing.llm.errors["attempts"].tolist() == [1]
    assert sent == 3
    assert healed.llm.status.tolist() == ["cached", "ok", "cached"]
    assert sim.stats().requests == 4


def test_a_body_that_breaks_off_is_no_answer(side: Side, sim: Simulator) -> None:
    sim.set(truncated_body=1.0)

    out = words("a").llm.complete("say {text}", model=side.model, max_retries=0)

    assert out.llm.errors["kind"].tolist() == ["connection"]
    assert "400" not in out.llm.errors["message"][0]  # aiohttp's own text begins with it, and no server sent it


def test_a_body_that_is_no_json_is_quoted(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.malformed())

    out = words("a").llm.complete("say {text}", model=side.model, max_retries=0)

    assert out.llm.errors["message"][0].startswith("The provider's reply is not what it documents: not JSON, but '")


def test_a_body_that_comes_in_drops_is_an_answer(side: Side, sim: Simulator) -> None:
    sim.set(drip=1.0, drip_s=0.1)

    out = words("a").llm.complete("say {text}", model=side.model, max_retries=0)

    assert out.llm.status.tolist() == ["ok"]


def test_what_can_pass_is_sent_again_until_it_does(side: Side, sim: Simulator) -> None:
    faults = {what: InTurn(fault, GOOD) for what, (fault, _) in PASSING.items() if what != "hang"}
    sim.set(answers=by_word(dict(faults), lambda request: GOOD))
    frame = words(*faults, "good")

    out = frame.llm.parse(Fact, "{text}", model=side.model, max_retries=1, timeout_s=60.0)

    assert out["name"].tolist() == ["n"] * len(frame)
    assert out.llm.usage["attempts"].tolist() == [2] * len(faults) + [1]
    assert sim.stats().requests == 2 * len(faults) + 1


def test_a_request_that_hangs_is_sent_again(side: Side, sim: Simulator) -> None:
    sim.set(answers=InTurn(SimAnswer.hang(), GOOD))

    out = words("a").llm.parse(Fact, "{text}", model=side.model, max_retries=1, timeout_s=5.0)

    assert out["name"].tolist() == ["n"]
    assert out.llm.usage["attempts"].tolist() == [2]


def test_a_rate_limit_does_not_use_up_the_retries(side: Side, sim: Simulator) -> None:
    refusal = SimAnswer.status(429, {"retry-after-ms": "1"})
    sim.set(answers=InTurn(refusal, refusal, refusal, GOOD))

    out = words("a").llm.parse(Fact, "{text}", model=side.model, max_retries=1)

    assert out.llm.status.tolist() == ["ok"]
    assert sim.stats().requests == 4


def test_retries_end(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(500))

    out = words("a").llm.complete("say {text}", model=side.model, max_retries=1)

    assert out.llm.errors[["kind", "attempts"]].to_numpy().tolist() == [["server_error", 2]]
    assert sim.stats().requests == 2


def test_a_long_wait_that_the_provider_asks_for_is_a_failure(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(503, {"retry-after": "3600"}))

    out = words("a").llm.complete("say {text}", model=side.model)

    assert out.llm.errors[["kind", "attempts"]].to_numpy().tolist() == [["overloaded", 1]]


def test_a_request_that_the_provider_rejects_names_the_field(side: Side, sim: Simulator) -> None:
    if side.wire == "compatible":
        sim.set(unsupported_parameters=("frobnicate",))

    run = words("a", "b").llm.submit_text("say {text}", model=side.model, extra_body={"frobnicate": 1})
    out = run.result()

    failure = live_of(run).table.failure(0)
    assert failure is not None
    assert (failure.kind, failure.field, failure.status) == ("bad_request", "frobnicate", 400)
    assert "frobnicate" in failure.message
    assert out.llm.errors["kind"].tolist() == ["bad_request", "bad_request"]
    assert out.llm.errors["cost_usd"].tolist() == [0.0, 0.0]
    assert sim.stats().requests == 2


def test_a_row_that_is_no_text_fails_before_it_is_sent(side: Side, sim: Simulator) -> None:
    out = words("a", "half a pair \ud800").llm.complete("say {text}", model=side.model)

    assert out.llm.errors[["position", "kind"]].to_numpy().tolist() == [[1, "input"]]
    assert sim.stats().requests == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("server_error", "server_error"),
        ("vector_store_timeout", "server_error"),
        ("rate_limit_exceeded", "rate_limit"),
        ("invalid_prompt", "bad_request"),
        ("bio_policy", "bad_request"),
    ],
)
def test_a_response_that_failed_inside_a_success_is_read_by_its_code(
    luna: str, sim: Simulator, code: str, kind: str
) -> None:
    body = {"id": "resp_1", "status": "failed", "output": [], "error": {"code": code, "message": "No."}}
    sim.set(answers=lambda request: SimAnswer.status(200, body=body))

    out = words("a").llm.complete("say {text}", model=RESPONSES.model, max_retries=0)

    assert out.llm.errors[["kind", "message"]].to_numpy().tolist() == [[kind, "No."]]


def test_a_routers_error_inside_a_success_is_read_by_its_code(compatible: Side, sim: Simulator) -> None:
    body = {"error": {"code": 429, "message": "Upstream is busy."}}
    sim.set(answers=lambda request: SimAnswer.status(200, body=body))

    out = words("a").llm.complete("say {text}", model=compatible.model, max_retries=0)

    assert out.llm.errors[["kind", "message"]].to_numpy().tolist() == [["rate_limit", "Upstream is busy."]]


@pytest.mark.parametrize("body", [{"error": "too busy"}, {"message": "too busy"}, {"detail": "x"}, "too busy"])
def test_an_error_body_of_any_shape_is_an_error(compatible: Side, sim: Simulator, body: Any) -> None:
    sim.set(answers=lambda request: SimAnswer.status(503, body=body))

    out = words("a").llm.complete("say {text}", model=compatible.model, max_retries=0)

    assert out.llm.errors["kind"].tolist() == ["overloaded"]
    assert out.llm.errors["message"].str.len().gt(0).tolist() == [True]
