"""Limits let through what they say: exactly on virtual time, and through the SDKs with the providers' words."""

from __future__ import annotations

import anthropic
import openai
import pytest
from google.genai import errors
from sim_asking import chat, generate, message

from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import SimAnswer, SimOptions
from pllm_notebook.sim.rate_limits import Limits


def admitted(limits, seconds, every_s=0.01, tokens=10, model="m"):
    """Count what gets through of a request every *every_s*, for *seconds* of virtual time."""
    passed = 0
    for step in range(round(seconds / every_s)):
        standing = limits.admit(model, tokens, step * every_s)
        passed += standing is None or not standing.refused_by
    return passed


@pytest.mark.parametrize(("per_min", "burst_s", "expected"), [(600, 5, 650), (60, 1, 61), (6, 1, 7), (60, 60, 120)])
def test_a_minute_holds_the_limit_and_one_burst(per_min, burst_s, expected):
    limits = Limits(SimOptions(requests_per_min=per_min, burst_s=burst_s))

    assert abs(admitted(limits, 60.0) - expected) <= 1


def test_tokens_are_limited_with_the_answers_tokens():
    limits = Limits(SimOptions(tokens_per_min=6000, burst_s=1))

    passed = 0
    for step in range(6000):
        standing = limits.admit("m", 50, step * 0.01)
        if not standing.refused_by:
            passed += 1
            limits.settle("m", 50)

    assert 59 <= passed <= 62


def test_a_request_larger_than_the_bucket_passes_when_it_is_full():
    limits = Limits(SimOptions(tokens_per_min=600, burst_s=1))

    assert not limits.admit("m", 1000, 0.0).refused_by
    assert limits.admit("m", 1000, 50.0).refused_by == "tokens"
    assert not limits.admit("m", 1000, 100.0).refused_by


def test_waiting_as_long_as_told_is_enough():
    limits = Limits(SimOptions(requests_per_min=7, burst_s=1))
    now_s = 0.0

    for _ in range(50):
        assert not limits.admit("m", 1, now_s).refused_by
        now_s += limits.admit("m", 1, now_s).wait_s


def test_each_model_has_limits_of_its_own():
    limits = Limits(SimOptions(requests_per_min=60, burst_s=1, limits={"big": (6, None), "free": (None, None)}))

    assert admitted(limits, 10.0) == 10
    assert admitted(limits, 10.0, model="big") == 1
    assert admitted(limits, 10.0, model="free") == 1000


def test_refused_requests_drain_the_limit_where_asked():
    limits = Limits(SimOptions(requests_per_min=60, burst_s=1, charge_refused=True))

    assert admitted(limits, 10.0) == 1
    assert not limits.admit("m", 1, 11.0).refused_by


def test_a_squeeze_lets_through_its_part_and_then_all_again():
    limits = Limits(SimOptions(requests_per_min=600, burst_s=1, squeeze=(10, 20, 0.5)))

    # A clock that does not begin at zero: the times count from the first request.
    passed = [0, 0, 0]
    for step in range(3000):
        standing = limits.admit("m", 1, 500 + step * 0.01)
        passed[step // 1000] += not standing.refused_by

    assert passed == pytest.approx([110, 50, 100], abs=1)


def test_a_squeeze_refills_each_span_at_its_own_rate():
    limits = Limits(SimOptions(tokens_per_min=600, burst_s=100, squeeze=(10, 20, 0.5)))

    limits.admit("m", 1000, 0.0)
    standing = limits.admit("m", 1, 30.0)

    assert standing.tokens.level == pytest.approx(100 + 50 + 100 - 1)


def test_a_squeeze_takes_what_the_smaller_bucket_cannot_hold():
    limits = Limits(SimOptions(requests_per_min=60, burst_s=10, squeeze=(1, 9, 0.5)))
    limits.admit("m", 1, 0.0)

    squeezed = limits.admit("m", 1, 1.0).requests.level
    made_then = limits.admit("later", 1, 1.0).requests.level
    after = limits.admit("m", 1, 9.0).requests

    assert (squeezed, made_then) == (4, 4)
    assert (after.level, after.capacity) == (4, 10)


@pytest.mark.parametrize(
    "squeeze", [(5, 5, 0.5), (-1, 5, 0.5), (1, 5, 0), (1, 5), "abc", (1, float("inf"), 0.5), (1, True, 0.5)]
)
def test_a_squeeze_that_means_nothing_is_an_error(squeeze):
    with pytest.raises(UsageError, match=r"squeeze is \(start_s, end_s, factor\)"):
        SimOptions(squeeze=squeeze)


def test_a_squeeze_set_while_running_stands_in_the_headers(sim, gpt):
    sim.set(requests_per_min=600, burst_s=10)
    chat(gpt)

    sim.set(squeeze=(0, 3600, 0.5))
    reply = gpt.chat.completions.with_raw_response.create(
        model="gpt-6-luna", messages=[{"role": "user", "content": "hi"}]
    )

    assert reply.headers["x-ratelimit-limit-requests"] == "300"
    assert reply.headers["x-ratelimit-remaining-requests"] == "49"


def test_admitted_counts_what_limits_let_through_and_nothing_else(sim, gpt):
    sim.set(requests_per_min=6, burst_s=10, error_500=1.0)

    for kind in (openai.InternalServerError, openai.RateLimitError):
        with pytest.raises(kind):
            chat(gpt)
    with pytest.raises(openai.BadRequestError):
        chat(gpt, temperature="hot")

    assert sim.stats().requests == 3
    assert sim.stats().admitted == 1


def test_openai_says_its_limits_in_headers(sim, gpt):
    sim.set(requests_per_min=6, tokens_per_min=60_000, burst_s=10)

    first = gpt.chat.completions.with_raw_response.create(
        model="gpt-6-luna", messages=[{"role": "user", "content": "hi"}]
    )
    with pytest.raises(openai.RateLimitError) as refused:
        chat(gpt)

    assert first.headers["x-ratelimit-limit-requests"] == "6"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert first.headers["x-ratelimit-limit-tokens"] == "60000"
    assert 9_900 < int(first.headers["x-ratelimit-remaining-tokens"]) < 10_000
    assert first.headers["x-ratelimit-reset-requests"] == "10s"
    assert first.headers["x-ratelimit-reset-tokens"].endswith("ms")
    headers = refused.value.response.headers
    assert 9 <= int(headers["retry-after"]) <= 10
    assert 9_000 < int(headers["retry-after-ms"]) <= 10_000
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.type == "requests"
    assert sim.stats().refused_429 == 1


def test_anthropic_says_its_limits_in_headers(sim, claude):
    sim.set(requests_per_min=6, tokens_per_min=60_000, burst_s=10)
    first = claude.messages.with_raw_response.create(
        model="claude-haiku-5-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
    )
    with pytest.raises(anthropic.RateLimitError) as refused:
        message(claude)

    names = {name for name in first.headers if name.startswith("anthropic-ratelimit-")}
    assert names == {
        f"anthropic-ratelimit-{what}-{part}"
        for what in ("requests", "tokens", "input-tokens", "output-tokens")
        for part in ("limit", "remaining", "reset")
    }
    assert first.headers["anthropic-ratelimit-requests-limit"] == "6"
    assert first.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert 9 <= int(refused.value.response.headers["retry-after"]) <= 10
    assert refused.value.type == "rate_limit_error"


def test_google_says_how_long_to_wait_in_the_body(sim, gemini):
    sim.set(requests_per_min=6, burst_s=10)
    generate(gemini)

    with pytest.raises(errors.ClientError) as refused:
        generate(gemini)

    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    kinds = {detail["@type"].rsplit(".", 1)[1]: detail for detail in refused.value.details["error"]["details"]}
    assert 9 < float(kinds["RetryInfo"]["retryDelay"].removesuffix("s")) <= 10
    assert "QuotaFailure" in kinds
    assert "retry-after" not in refused.value.response.headers


@pytest.mark.parametrize(("mode", "said"), [("retry_after", {"retry-after"}), ("none", set())])
def test_headers_can_say_less(sim, gpt, mode, said):
    sim.set(requests_per_min=6, burst_s=10, headers=mode)

    chat(gpt)
    with pytest.raises(openai.RateLimitError) as refused:
        chat(gpt)

    headers = {name for name in refused.value.response.headers if "retry" in name or "ratelimit" in name}
    assert headers == said


def test_limits_changed_while_running_start_full_and_reset_fills_them(sim, gpt):
    sim.set(requests_per_min=1, burst_s=1)
    chat(gpt)

    sim.set(requests_per_min=2)
    chat(gpt)
    sim.reset()
    chat(gpt)
    sim.set(latency_s=0.001)

    with pytest.raises(openai.RateLimitError):
        chat(gpt)


def test_a_scripted_status_carries_its_headers_and_body(sim, gpt):
    body = {"error": {"message": "No money.", "type": "insufficient_quota", "code": "insufficient_quota"}}
    sim.set(answers=lambda request: SimAnswer.status(429, {"retry-after": "7"}, body))

    with pytest.raises(openai.RateLimitError) as refused:
        chat(gpt)

    assert refused.value.code == "insufficient_quota"
    assert refused.value.response.headers["retry-after"] == "7"
