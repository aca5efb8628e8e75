"""What every row would meet ends the run at once, with one message, and nothing finished is lost."""

from __future__ import annotations

import logging

import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import MissingKeyError, ProviderRejectedError
from pllm_notebook.execution.rejections import SAME_REJECTION_LIMIT
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import InTurn, by_word, words
from tests.contract.sides import ANTHROPIC, COMPATIBLE, GOOGLE, OPENAI, RESPONSES, Side, reach

_OPENAI_QUOTA = {
    "error": {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
}
_ANTHROPIC_SPEND = {
    "type": "error",
    "error": {
        "type": "rate_limit_error",
        "message": "Your organization has reached its spend limit.",
        "details": {"error_code": "enforced_spend_limit_reached"},
    },
    "request_id": "req_1",
}
_ANTHROPIC_BILLING = {"type": "error", "error": {"type": "billing_error", "message": "Your credit balance is too low."}}
_GOOGLE_DAILY = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [
                    {
                        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
                        "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
                        "quotaValue": "50",
                    }
                ],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"},
        ],
    }
}
QUOTAS = [
    (OPENAI, SimAnswer.status(429, {"retry-after": "1"}, _OPENAI_QUOTA)),
    (RESPONSES, SimAnswer.status(429, body=_OPENAI_QUOTA)),
    (ANTHROPIC, SimAnswer.status(429, body=_ANTHROPIC_SPEND)),
    (ANTHROPIC, SimAnswer.status(402, body=_ANTHROPIC_BILLING)),
    (GOOGLE, SimAnswer.status(429, body=_GOOGLE_DAILY)),
    (COMPATIBLE, SimAnswer.status(402, body={"error": {"message": "Insufficient credits", "code": 402}})),
]


def stop_in_the_middle(side: Side, sim: Simulator, answer: SimAnswer) -> ProviderRejectedError:
    """Ask six rows one at a time, of which the fourth meets *answer*."""
    sim.set(answers=by_word({"row 3": answer}, lambda request: f"re: {request.prompt}"))
    with pytest.raises(ProviderRejectedError) as caught:
        words(*(f"row {n}" for n in range(6))).llm.complete("{text}", model=side.model, concurrency=1)
    return caught.value


@pytest.mark.parametrize(
    ("side", "answer"), QUOTAS, indirect=["side"], ids=[f"{side.id}-{answer.code}" for side, answer in QUOTAS]
)
def test_a_quota_that_does_not_come_back_stops_the_run_and_keeps_what_is_finished(
    side: Side, sim: Simulator, answer: SimAnswer
) -> None:
    error = stop_in_the_middle(side, sim, answer)

    assert (error.kind, error.status, error.kept, error.total) == ("quota", answer.code, 3, 6)
    assert sim.stats().requests == 4
    partial = pllm.runs()[-1].to_frame()
    assert partial["answer"].notna().tolist() == [True, True, True, False, False, False]
    assert partial.llm.status.tolist() == ["ok", "ok", "ok", "failed", "pending", "pending"]


@pytest.mark.sample(9)
@pytest.mark.parametrize(
    ("code", "kind"),
    [(400, "rejected"), (401, "authentication"), (403, "permission"), (404, "unknown_model"), (422, "rejected")],
)
def test_a_refusal_of_every_request_stops_the_run_and_keeps_what_is_finished(
    side: Side, sim: Simulator, code: int, kind: str
) -> None:
    refusal = SimAnswer.status(code)
    sim.set(answers=by_word({f"row {n}": f"re: row {n}" for n in range(3)}, lambda request: refusal))
    frame = words(*(f"row {n}" if n < 3 else f"later {n}" for n in range(40)))

    with pytest.raises(ProviderRejectedError) as caught:
        frame.llm.complete("{text}", model=side.model, concurrency=1)

    error = caught.value
    assert (error.kind, error.status, error.kept, error.total) == (kind, code, 3, 40)
    said = "what every row sends" if kind == "rejected" else f"({kind.replace('_', ' ')})"
    assert str(error).startswith(f"{side.model} refused {said}: ")
    assert sim.stats().requests == 3 + SAME_REJECTION_LIMIT
    partial = pllm.runs()[-1].to_frame()
    assert partial.llm.status.tolist() == ["ok"] * 3 + ["failed"] * SAME_REJECTION_LIMIT + ["pending"] * (
        40 - 3 - SAME_REJECTION_LIMIT
    )


def test_a_run_that_was_stopped_goes_on_from_there(side: Side, sim: Simulator) -> None:
    stop_in_the_middle(side, sim, SimAnswer.status(402))
    sim.set(answers=lambda request: f"re: {request.prompt}")
    sim.reset()

    out = words(*(f"row {n}" for n in range(6))).llm.complete("{text}", model=side.model)

    assert out["answer"].tolist() == [f"re: row {n}" for n in range(6)]
    assert out.llm.status.tolist() == ["cached"] * 3 + ["ok"] * 3
    assert sim.stats().requests == 3


def test_a_bad_key_is_told_once_and_not_for_every_row(
    side: Side, sim: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reach(side, sim, monkeypatch, key="bad-key")
    caplog.set_level(logging.ERROR)

    with pytest.raises(ProviderRejectedError) as caught:
        words(*(f"row {n}" for n in range(500))).llm.complete("{text}", model=side.model)

    assert (caught.value.kind, caught.value.kept, caught.value.total) == ("authentication", 0, 500)
    assert len([record for record in caplog.records if record.name == "pllm_notebook"]) == 1
    # No more than the first window, which had left before the first refusal was back.
    assert sim.stats().requests <= 64


def test_a_model_that_is_not_there_is_told_by_name(side: Side, sim: Simulator) -> None:
    with pytest.raises(ProviderRejectedError) as caught:
        words("a", "b").llm.complete("{text}", model=f"{side.provider}:missing-model")

    assert (caught.value.kind, caught.value.status) == ("unknown_model", 404)
    assert "missing-model" in str(caught.value)


def test_a_missing_key_is_told_by_its_variable_before_anything_is_sent(
    hosted: Side, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(hosted.key)

    with pytest.raises(MissingKeyError) as caught:
        words("a").llm.complete("{text}", model=hosted.model)

    assert caught.value.variable == hosted.key
    assert hosted.key in str(caught.value)
    assert sim.stats().requests == 0


def test_a_missing_key_is_told_with_what_needs_none(
    hosted: Side, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = words(*(f"row {n}" for n in range(20)))
    frame.head(18).llm.complete("{text}", model=hosted.model)
    monkeypatch.delenv(hosted.key)

    with pytest.raises(MissingKeyError) as caught:
        frame.llm.complete("{text}", model=hosted.model)
    out = frame.llm.complete("{text}", model=hosted.model, cache="only")

    assert (caught.value.variable, caught.value.kept, caught.value.total) == (hosted.key, 18, 20)
    assert "18 of 20 rows are answered in the cache: cache='only' gives these without a key" in str(caught.value)
    assert out["answer"].notna().sum() == 18


def test_no_key_is_needed_when_nothing_has_to_be_sent(
    hosted: Side, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = words("a", "b").llm.complete("{text}", model=hosted.model)
    monkeypatch.delenv(hosted.key)

    again = words("b", "a").llm.complete("{text}", model=hosted.model)

    assert again["answer"].tolist() == first["answer"].tolist()[::-1]
    assert sim.stats().requests == 2


def test_the_answers_of_a_key_are_those_of_another(
    hosted: Side, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    words("a").llm.complete("{text}", model=hosted.model)
    reach(hosted, sim, monkeypatch, key="another-key")

    out = words("a").llm.complete("{text}", model=hosted.model)

    assert out.llm.status.tolist() == ["cached"]


def test_a_key_that_was_mended_is_used_at_once(side: Side, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    reach(side, sim, monkeypatch, key="bad-key")
    with pytest.raises(ProviderRejectedError):
        words("a").llm.complete("{text}", model=side.model)
    reach(side, sim, monkeypatch, key="good-key")

    out = words("a").llm.complete("{text}", model=side.model)

    assert out.llm.status.tolist() == ["ok"]


@pytest.mark.parametrize("hosted", [GOOGLE], indirect=True, ids=["google"])
def test_a_minutes_limit_of_google_is_no_quota(sim: Simulator, hosted: Side) -> None:
    details = _GOOGLE_DAILY["error"]["details"]
    assert isinstance(details, list)
    per_minute = {"@type": details[0]["@type"], "violations": [{"quotaId": "GenerateRequestsPerMinutePerProject"}]}
    wait = {"@type": details[1]["@type"], "retryDelay": "0.25s"}
    body = {"error": {**_GOOGLE_DAILY["error"], "details": [per_minute, wait]}}
    refusal = SimAnswer.status(429, body=body)
    sim.set(answers=InTurn(refusal, "yes"))

    out = words("a").llm.complete("{text}", model=hosted.model)

    assert out["answer"].tolist() == ["yes"]
    assert sim.stats().requests == 2
