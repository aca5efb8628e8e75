"""A refusal among answers is its row's own; the same one again and again, with no answer between, is every row's."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import ProviderRejectedError
from pllm_notebook.execution.rejections import FIRST_CALLS, SAME_REJECTION_LIMIT
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.batch_accounts import MODELS, REPLIES, client_of
from tests.contract.batch_server import BatchServer
from tests.contract.scripts import by_word, words
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, Side

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

NO_CREDIT = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
    },
}
# What one row may meet: a router's moderation, a firewall's page, a stray 404, a gateway's 401.
ODD: dict[str, SimAnswer] = {
    "moderation": SimAnswer.status(
        403,
        body={
            "error": {
                "code": 403,
                "message": "Your chosen model requires moderation and your input was flagged",
                "metadata": {"reasons": ["violence"], "flagged_input": "row 7"},
            }
        },
    ),
    "firewall": SimAnswer.status(403, body="<html><body><h1>Request blocked</h1>Ray ID 8f3b2c1d</body></html>"),
    "not found": SimAnswer.status(404, body="<html>Not Found</html>"),
    "unauthorised": SimAnswer.status(401, body={"error": {"message": "upstream said no"}}),
    "redirect": SimAnswer.status(302, {"location": "http://127.0.0.1:9/login"}),
}


class Fact(BaseModel):
    mood: Literal["good", "bad"]


def rows(count: int) -> Any:
    return words(*(f"row {n}." for n in range(count)))


@pytest.mark.parametrize("what", ODD)
def test_a_refusal_among_answers_is_its_rows_own(luna: str, sim: Simulator, what: str) -> None:
    sim.set(answers=by_word({"row 7.": ODD[what]}, lambda request: "yes"))
    frame = rows(300)

    out = frame.llm.complete("{text}", model=luna)

    assert out["answer"].notna().sum() == 299
    (failed,) = out.llm.errors.to_dict("records")
    assert (failed["position"], failed["status"]) == (7, ODD[what].code)
    assert failed["kind"] in ("bad_request", "content_filter")
    assert sim.stats().requests == 300


@pytest.mark.parametrize("what", ["moderation", "firewall", "not found"])
def test_a_refusal_among_stored_answers_is_its_rows_own_and_can_pass(luna: str, sim: Simulator, what: str) -> None:
    sim.set(answers=by_word({"row 7.": ODD[what]}, lambda request: "yes"))
    frame = rows(30)
    frame.llm.complete("{text}", model=luna)

    out = frame.llm.complete("{text}", model=luna)
    sim.set(answers=lambda request: "yes")
    passed = frame.llm.complete("{text}", model=luna)

    assert out.llm.errors["position"].tolist() == [7]
    assert passed["answer"].notna().all()


@pytest.mark.sample(2)
def test_an_account_without_credit_stops_the_run_with_one_message_and_is_not_remembered(
    side: Side, sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    sim.set(answers=lambda request: SimAnswer.status(400, body=NO_CREDIT))
    frame = rows(300)

    with pytest.raises(ProviderRejectedError) as caught:
        frame.llm.complete("{text}", model=side.model)
    refused = sim.stats().requests
    sim.set(answers=lambda request: "yes")
    sim.reset()
    topped_up = frame.llm.complete("{text}", model=side.model)

    assert caught.value.kind == "quota"
    assert "credit balance is too low" in str(caught.value)
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    assert refused <= FIRST_CALLS < 64
    assert topped_up["answer"].notna().all()
    assert sim.stats().requests == 300


def test_a_field_that_is_rejected_for_good_stops_the_run_after_a_handful(side: Side, sim: Simulator) -> None:
    body = {"error": {"message": "Unsupported parameter: 'response_format'.", "param": "response_format"}}
    sim.set(answers=lambda request: SimAnswer.status(400, body=body))

    with pytest.raises(ProviderRejectedError) as caught:
        rows(300).llm.parse(Fact, "{text}", model=side.model)

    assert caught.value.kind == "rejected"
    assert "response_format" in str(caught.value)
    # A few are asked at each further schema level, as none is at the provider's own address.
    assert sim.stats().requests <= 64
    assert pllm.runs()[-1].to_frame().llm.status.isin(["failed", "pending"]).all()

    sim.set(answers=lambda request: '{"mood": "good"}')
    assert rows(300).llm.parse(Fact, "{text}", model=side.model)["mood"].notna().all()


def test_a_wrong_model_that_a_400_tells_of_is_no_rows_failure(compatible: Side, sim: Simulator) -> None:
    body = {"error": {"message": "nobody/nothing is not a valid model ID", "code": 400}}
    sim.set(answers=lambda request: SimAnswer.status(400, body=body))

    with pytest.raises(ProviderRejectedError) as caught:
        words("a", "b").llm.complete("{text}", model=compatible.model)

    assert caught.value.kind == "unknown_model"


@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE], indirect=True, ids=lambda side: side.id)
def test_what_all_rows_share_from_some_row_on_stops_the_run_there_and_keeps_what_is_in_flight(
    side: Side, sim: Simulator
) -> None:
    lock, asked = threading.Lock(), 0

    def answer(request: SimRequest) -> Any:
        nonlocal asked
        with lock:
            asked += 1
            return "yes" if asked <= 200 else SimAnswer.status(403, body={"error": {"message": "Region not allowed."}})

    sim.set(answers=answer)

    with pytest.raises(ProviderRejectedError) as caught:
        rows(1000).llm.complete("{text}", model=side.model)

    assert caught.value.kept == 200
    assert sim.stats().requests < 1000


def test_a_refusal_that_says_that_the_row_is_too_long_never_stops_a_run(luna: str, sim: Simulator) -> None:
    body = {
        "error": {"message": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"}
    }
    early = {f"row {n}.": SimAnswer.status(400, body=body) for n in range(60)}
    sim.set(answers=by_word(early, lambda request: "yes"))
    frame = rows(100)

    out = frame.llm.complete("{text}", model=luna, concurrency=4)
    again = frame.llm.complete("{text}", model=luna)

    assert out["answer"].notna().tolist() == [False] * 60 + [True] * 40
    assert again.llm.errors["message"].str.contains("not sent again").all()
    assert sim.stats().requests == 100


def test_fewer_rows_than_can_tell_fail_by_themselves_and_are_sent_again(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(400))
    frame = rows(SAME_REJECTION_LIMIT - 1)

    out = frame.llm.complete("{text}", model=luna)
    sim.set(answers=lambda request: "yes")
    again = frame.llm.complete("{text}", model=luna)

    assert out.llm.errors["kind"].tolist() == ["bad_request"] * (SAME_REJECTION_LIMIT - 1)
    assert again["answer"].notna().all()


@pytest.mark.parametrize("status", [424, 498, 499, 520, 599])
def test_a_gateways_trouble_is_tried_again(luna: str, sim: Simulator, status: int) -> None:
    sim.set(answers=by_word({"row 0.": SimAnswer.status(status)}, lambda request: "yes"))

    out = rows(2).llm.complete("{text}", model=luna, max_retries=1)

    assert out.llm.errors[["kind", "attempts"]].to_numpy().tolist() == [["server_error", 2]]


@pytest.mark.parametrize("kind", MODELS)
def test_an_answer_with_another_success_is_an_answer(kind: str, cache_dir: Path) -> None:
    with BatchServer(lambda _: (201, REPLIES[kind])) as server:
        pllm.configure(clients={"own": client_of(kind, server.url)})

        out = words("a").llm.complete("{text}", model=f"own:{MODELS[kind]}")

    assert out["answer"].tolist() == ["yes"]
