"""Reading what providers say when they refuse: times, numbers, and keys that must not be repeated."""

from __future__ import annotations

import datetime as dt
import time

import pytest

from pllm_notebook.failures import FailureKind
from pllm_notebook.providers import errors
from pllm_notebook.providers.openai.errors import error_from
from pllm_notebook.types import RawReply


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12ms", 0.012),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("31s", 31.0),
        ("2.5", 2.5),
        ("", None),
        (None, None),
        ("soon", None),
        ("1x", None),
    ],
)
def test_a_time_until_a_reset_is_read_in_every_form(text: str | None, expected: float | None) -> None:
    assert errors.seconds(text) == expected


def test_a_moment_is_read_as_the_seconds_until_it() -> None:
    moment = dt.datetime.now(tz=dt.UTC) + dt.timedelta(seconds=90)

    assert errors.seconds(moment.isoformat().replace("+00:00", "Z")) == pytest.approx(90, abs=5)


def test_a_moment_that_has_passed_is_now() -> None:
    assert errors.seconds("2020-01-01T00:00:00Z") == 0.0


@pytest.mark.parametrize(("text", "expected"), [("5", 5.0), ("0", 0.0), ("-1", None), ("nan", None), ("inf", None)])
def test_a_number_below_zero_is_not_known(text: str, expected: float | None) -> None:
    assert errors.number(text) == expected


def test_milliseconds_stand_above_seconds() -> None:
    assert errors.retry_after_s({"retry-after-ms": "250", "retry-after": "1"}) == 0.25


def test_a_wait_may_be_a_date() -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))

    assert errors.retry_after_s({"retry-after": date}) == pytest.approx(60, abs=5)


def test_a_wait_until_a_date_is_counted_by_the_providers_own_clock() -> None:
    said = {"date": "Thu, 01 Jan 2026 10:00:00 GMT", "retry-after": "Thu, 01 Jan 2026 10:00:07 GMT"}

    assert errors.retry_after_s(said) == 7.0
    assert errors.retry_after_s({"retry-after": "soon"}) is None


@pytest.mark.parametrize("year", ["99999", "999999999999999999999", "0000"])
def test_a_date_of_no_calendar_is_no_word_on_waiting(year: str) -> None:
    assert errors.retry_after_s({"retry-after": f"Fri, 31 Dec {year} 23:59:59 GMT"}) in (None, 0.0)
    assert errors.seconds(f"{year[:4]}-12-31T23:59:59+99:99") is None


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (400, "Your credit balance is too low to access the API.", FailureKind.QUOTA),
        (403, "Insufficient credits. Add more.", FailureKind.QUOTA),
        (429, "You have run out of credits.", FailureKind.QUOTA),
        (429, "You exceeded your current quota.", FailureKind.RATE_LIMIT),
        (400, "Invalid model name passed in model=gpt-x", FailureKind.UNKNOWN_MODEL),
        (400, "nobody/nothing is not a valid model ID", FailureKind.UNKNOWN_MODEL),
        (400, "The model `x` does not exist or you do not have access.", FailureKind.UNKNOWN_MODEL),
        (400, "API key not valid. Please pass a valid API key.", FailureKind.AUTHENTICATION),
        (400, "Invalid value for temperature", FailureKind.BAD_REQUEST),
        (403, "Country not supported", FailureKind.PERMISSION),
        (302, "whatever", FailureKind.REJECTED),
        (424, "", FailureKind.SERVER),
        (498, "", FailureKind.SERVER),
        (499, "", FailureKind.SERVER),
        (520, "", FailureKind.SERVER),
    ],
)
def test_words_of_account_model_and_key_are_read_under_any_status(status: int, said: str, kind: FailureKind) -> None:
    assert errors.failure(RawReply(status, {}, b""), said).kind is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.BAD_REQUEST),
        (401, FailureKind.AUTHENTICATION),
        (402, FailureKind.QUOTA),
        (403, FailureKind.PERMISSION),
        (404, FailureKind.UNKNOWN_MODEL),
        (408, FailureKind.TIMEOUT),
        (413, FailureKind.BAD_REQUEST),
        (418, FailureKind.BAD_REQUEST),
        (422, FailureKind.BAD_REQUEST),
        (429, FailureKind.RATE_LIMIT),
        (500, FailureKind.SERVER),
        (502, FailureKind.SERVER),
        (503, FailureKind.OVERLOADED),
        (504, FailureKind.SERVER),
        (529, FailureKind.OVERLOADED),
    ],
)
def test_a_status_has_one_meaning(status: int, kind: FailureKind) -> None:
    assert errors.failure(RawReply(status, {}, b""), "no").kind is kind


def test_a_key_that_a_provider_quotes_is_blanked_out() -> None:
    said = b'{"error": {"message": "Incorrect API key provided: sk-proj-abc123DEF456. Or AIzaSyA1234567890"}}'

    failure = error_from(RawReply(401, {}, said))

    assert failure.message == "Incorrect API key provided: sk-… Or AIza…"
    assert "abc123" not in failure.raw
    assert "SyA123" not in failure.raw


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html><title>502  Bad\nGateway</title><p>long", "HTTP 502: a web page, titled '502 Bad Gateway'"),
        (b"<!DOCTYPE html><p>no title", "HTTP 502: a web page"),
        (b"upstream gone", "HTTP 502: upstream gone"),
    ],
)
def test_a_web_page_in_place_of_a_refusal_is_told_by_its_title(body: bytes, told: str) -> None:
    assert errors.failure(RawReply(502, {}, body), "").message == told
