"""What the providers' batch APIs read in jobs, lists and result lines, and whose batch API they ask."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import anthropic
import openai
import orjson
import pytest

from pllm_notebook.exceptions import MissingKeyError
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.protocols import BatchAPI
from pllm_notebook.providers import resolve
from pllm_notebook.types import BatchResult, RemoteJob
from tests.contract.batch_accounts import (
    MODELS,
    NAMES,
    all_of,
    job_of,
    line_of,
    of_client,
    one_of,
    target_of,
)
from tests.contract.batch_server import Asked, BatchServer, Torn
from tests.contract.test_batch_apis import with_api


@pytest.fixture(params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(
    ("kind", "word", "state"),
    [
        *[("openai", word, "running") for word in ("validating", "in_progress", "finalizing", "cancelling")],
        ("openai", "completed", "ended"),
        *[("openai", word, word) for word in ("failed", "expired", "cancelled")],
        *[("anthropic", word, "running") for word in ("in_progress", "canceling")],
        ("anthropic", "ended", "ended"),
        *[("google", word, "running") for word in ("PENDING", "QUEUED", "RUNNING", "CANCELLING", "PAUSED", "UPDATING")],
        *[("google", word, "ended") for word in ("SUCCEEDED", "PARTIALLY_SUCCEEDED")],
        *[("google", word, word.lower()) for word in ("FAILED", "CANCELLED", "EXPIRED")],
    ],
)
def test_every_word_of_a_provider_for_a_state_is_known(
    kind: str, word: str, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    field = {"openai": "status", "anthropic": "processing_status", "google": "state"}[kind]
    words = [f"BATCH_STATE_{word}", f"JOB_STATE_{word}"] if kind == "google" else [word]

    with caplog.at_level(logging.WARNING, "pllm_notebook"):
        jobs = [look(kind, job_of(kind, **{field: each})) for each in words]

    assert {job.state for job in jobs} == {state}
    assert not [record for record in caplog.records if record.name == "pllm_notebook"]


def look(kind: str, told: dict[str, Any]) -> RemoteJob:
    with BatchServer(lambda _: (200, told)) as server:
        return with_api(target_of(kind, server), lambda api: api.look(NAMES[kind]))


def test_a_new_word_for_a_state_counts_as_running_and_is_logged_once(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    field = {"openai": "status", "anthropic": "processing_status", "google": "state"}[kind]

    with caplog.at_level(logging.WARNING, "pllm_notebook"):
        jobs = [look(kind, job_of(kind, **{field: "MOULTING"})) for _ in range(2)]

    assert [job.state for job in jobs] == ["running", "running"]
    (record,) = [each for each in caplog.records if each.name == "pllm_notebook"]
    assert "'MOULTING', which is unknown here; it counts as running" in record.message


def test_a_new_word_for_a_google_job_that_is_done_has_ended() -> None:
    job = job_of("google", state="BATCH_STATE_MOULTED") | {"done": True}

    assert look("google", job).state == "ended"
    assert look("google", job | {"error": {"code": 3, "message": "bad"}}).state == "failed"


def test_the_empty_name_of_a_file_is_none() -> None:
    job = look("openai", job_of("openai", output_file_id=None, error_file_id=""))

    assert job.files == ()


def test_both_files_of_openai_are_read() -> None:
    def answer(asked: Asked) -> Any:
        if "content" in asked.path:
            return Torn([line_of("openai", 1 if "out" in asked.path else 2)], whole=True)
        return 200, job_of("openai", error_file_id="file-err")

    with BatchServer(answer) as server:
        results = with_api(target_of("openai", server), lambda api: all_of(api, "batch_1"))

    assert [result.custom_id for result in results] == ["p1-1", "p1-2"]


@pytest.mark.parametrize("count", ["canceled", "expired"])
def test_anthropics_counts_tell_how_a_job_ended(count: str) -> None:
    job = look("anthropic", job_of("anthropic", request_counts={"processing": 0, "succeeded": 3, count: 2}))

    assert (job.state, job.total, job.succeeded, job.failed) == (
        "cancelled" if count == "canceled" else "expired",
        *(5, 3, 2),
    )


def test_a_list_is_read_page_by_page_until_jobs_are_too_old(kind: str) -> None:
    with BatchServer(lambda asked: (200, page(kind, asked, time.time()))) as server:
        since = time.time() - 1000

        async def use(api: BatchAPI) -> list[str]:
            return [job.id async for job in api.recent(since)]

        names = with_api(target_of(kind, server), use)

    # Three pages of two: the first within the time, the second half so, the third too old. Only Google's order is
    # not documented, so there alone the fourth is asked for.
    start = "batches/" if kind == "google" else ""
    assert names == [f"{start}0", f"{start}1", f"{start}2"]
    assert len(server.asked) == (4 if kind == "google" else 3)


def page(kind: str, asked: Asked, now: float) -> dict[str, Any]:
    after = {"openai": "after=", "anthropic": "after_id=", "google": "pageToken="}[kind]
    token = asked.path.partition(after)[2].partition("&")[0]
    start = (int(token) + 1 if kind != "google" else int(token)) if token else 0
    ages = [10, 500, 900, 1100, 1200, 1300, 1400, 1500]
    jobs = []
    for number in (start, start + 1):
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - ages[number]))
        if kind == "openai":
            jobs.append(job_of(kind, id=str(number), created_at=int(now - ages[number])))
        elif kind == "anthropic":
            jobs.append(job_of(kind, id=str(number), created_at=made))
        else:
            jobs.append(job_of(kind, createTime=made) | {"name": f"batches/{number}"})
    more = start + 2 < len(ages)
    if kind == "google":
        return {"operations": jobs} | ({"nextPageToken": str(start + 2)} if more else {})
    return {"data": jobs, "has_more": more}


@pytest.mark.parametrize(
    ("code", "word"), [("batch_expired", "expired"), ("batch_cancelled", "cancelled"), ("other_error", "other_error")]
)
def test_a_line_of_openai_that_was_never_answered_says_why(code: str, word: str) -> None:
    result, _ = one_of("openai", {"custom_id": "p1-1", "response": None, "error": {"code": code, "message": "…"}})

    assert result == BatchResult("p1-1", None, word)


def test_a_status_of_zero_is_no_response() -> None:
    line = {"custom_id": "p1-1", "response": {"status_code": 0, "request_id": "", "body": {}}, "error": None}

    result, _ = one_of("openai", line)

    assert result == BatchResult("p1-1", None, "no response")


def test_an_error_of_one_line_keeps_its_status_and_its_number() -> None:
    error = {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}
    line = {"custom_id": "p1-1", "response": {"status_code": 429, "request_id": "req_9", "body": error}, "error": None}

    _, failure = one_of("openai", line)

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status, failure.request_id) == (FailureKind.RATE_LIMIT, 429, "req_9")


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("invalid_request_error", FailureKind.BAD_REQUEST),
        ("overloaded_error", FailureKind.OVERLOADED),
        ("api_error", FailureKind.SERVER),
        ("rate_limit_error", FailureKind.RATE_LIMIT),
        ("billing_error", FailureKind.QUOTA),
        ("a_new_error", FailureKind.BAD_REQUEST),
    ],
)
def test_an_error_of_anthropics_line_is_read_by_its_type(word: str, kind: FailureKind) -> None:
    error = {"type": "error", "error": {"type": word, "message": "Why."}, "request_id": "req_9"}

    _, failure = one_of("anthropic", {"custom_id": "p1-1", "result": {"type": "errored", "error": error}})

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.message, failure.request_id) == (kind, "Why.", "req_9")


@pytest.mark.parametrize(("type_", "word"), [("canceled", "cancelled"), ("expired", "expired"), ("new", "new")])
def test_a_line_of_anthropic_that_was_never_answered_says_why(type_: str, word: str) -> None:
    result, _ = one_of("anthropic", {"custom_id": "p1-1", "result": {"type": type_}})

    assert result == BatchResult("p1-1", None, word)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (3, 400, FailureKind.BAD_REQUEST),
        (8, 429, FailureKind.RATE_LIMIT),
        (13, 500, FailureKind.SERVER),
        (14, 503, FailureKind.OVERLOADED),
        (400, 400, FailureKind.BAD_REQUEST),
        (503, 503, FailureKind.OVERLOADED),
        (None, 500, FailureKind.SERVER),
    ],
)
def test_an_error_of_googles_line_is_read_by_either_code(code: int | None, status: int, kind: FailureKind) -> None:
    _, failure = one_of("google", {"key": "p1-1", "error": {"code": code, "message": "Why."}})

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status, failure.message) == (kind, status, "Why.")


def test_a_line_of_google_that_was_cancelled_says_so() -> None:
    result, _ = one_of("google", {"key": "p1-1", "error": {"code": 1, "message": "…"}})

    assert result == BatchResult("p1-1", None, "cancelled")


def test_anthropics_results_are_fetched_where_the_client_leads() -> None:
    def answer(asked: Asked) -> Any:
        if asked.path.endswith("/results"):
            return Torn([line_of("anthropic")], whole=True)
        return 200, job_of("anthropic", results_url="http://127.0.0.1:9/elsewhere")

    with BatchServer(answer) as server:
        results = with_api(target_of("anthropic", server), lambda api: all_of(api, "msgbatch_1"))

    assert [result.custom_id for result in results] == ["p1-1"]


def test_azure_is_asked_without_the_version_in_its_endpoints() -> None:
    def answer(asked: Asked) -> Any:
        return 200, job_of("openai")

    async def use(api: BatchAPI) -> bytes:
        await api.create(Path(__file__), "file-1", "label")
        return api.line("p1-1", b"{}")

    with BatchServer(answer) as server:
        azure = openai.AsyncAzureOpenAI(azure_endpoint=server.url, api_key="k", api_version="2025-04-01-preview")
        line = with_api(of_client("openai", azure), use)

    (asked,) = server.asked
    assert asked.path == "/openai/batches?api-version=2025-04-01-preview"
    assert orjson.loads(asked.body)["endpoint"] == "/chat/completions"
    assert orjson.loads(line)["url"] == "/chat/completions"


@pytest.mark.parametrize(
    "client",
    [
        anthropic.AsyncAnthropicBedrock(api_key="k", aws_region="eu-west-1"),
        anthropic.AsyncAnthropicVertex(access_token="t", project_id="p", region="europe-west1"),
        anthropic.AsyncAnthropicFoundry(api_key="k", resource="r"),
    ],
    ids=lambda client: type(client).__name__,
)
def test_a_client_without_a_batch_api_says_so(client: Any) -> None:
    target = of_client("anthropic", client)

    assert target.open_batch is None
    assert target.no_batch_reason == f"The client 'own' is an {type(client).__name__}, which has no batch API."


def test_a_batch_api_without_a_key_says_what_is_missing() -> None:
    target = resolve("openai:gpt-6-luna", servers={}, clients={}, keys={}, simulator=str)

    assert target.open_batch is not None
    with pytest.raises(MissingKeyError):
        target.open_batch()
