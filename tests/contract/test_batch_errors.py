"""What the providers' batch APIs make of refusals and lost answers, through the real SDKs over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pllm_notebook.failures import FailureKind
from pllm_notebook.protocols import BatchRefused, TransportFault
from tests.contract.batch_accounts import (
    MODELS,
    NAMES,
    target_of,
)
from tests.contract.batch_server import BatchServer
from tests.contract.test_batch_apis import with_api


@pytest.fixture(params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_definite_no_is_a_refusal(kind: str, status: int) -> None:
    error = {"type": "some_error", "message": "No: sk-secret-secret is bad."}
    answer = {"type": "error", "error": error}
    with BatchServer(lambda _: (status, answer)) as server, pytest.raises(BatchRefused) as caught:
        with_api(target_of(kind, server), lambda api: api.create(Path(__file__), "files/1", "label"))

    assert caught.value.status == status
    assert "secret-secret" not in caught.value.message
    assert caught.value.message.endswith("is bad.")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_what_is_no_definite_no_is_a_fault(kind: str, status: int) -> None:
    answer = {"error": {"type": "invalid_request_error", "message": "later"}}
    with BatchServer(lambda _: (status, answer)) as server, pytest.raises(TransportFault) as caught:
        with_api(target_of(kind, server), lambda api: api.create(Path(__file__), "files/1", "label"))

    assert caught.value.kind.retried
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 409, 425])
def test_a_status_that_tells_nothing_is_a_fault_whatever_its_body_says(kind: str, status: int) -> None:
    error = {"type": "billing_error", "code": "insufficient_quota", "message": "…"}
    if kind == "google":
        error["details"] = [{"reason": "API_KEY_INVALID"}]  # type: ignore[assignment]
    answer = {"error": error}
    with BatchServer(lambda _: (status, answer)) as server, pytest.raises(TransportFault) as caught:
        with_api(target_of(kind, server), lambda api: api.create(Path(__file__), "files/1", "label"))

    assert caught.value.kind == FailureKind.SERVER


def test_want_of_credit_is_a_definite_no() -> None:
    error = {"code": "insufficient_quota", "message": "You exceeded your quota."}
    with BatchServer(lambda _: (429, {"error": error})) as server, pytest.raises(BatchRefused) as caught:
        with_api(target_of("openai", server), lambda api: api.create(Path(__file__), "file-1", "label"))

    assert (caught.value.status, caught.value.message) == (429, "You exceeded your quota.")


def test_a_conflict_on_cancelling_is_a_definite_no(kind: str) -> None:
    answer = (409, {"error": {"message": "It has ended."}})
    with BatchServer(lambda _: answer) as server, pytest.raises(BatchRefused) as caught:
        with_api(target_of(kind, server), lambda api: api.cancel(NAMES[kind]))

    assert (caught.value.status, caught.value.message) == (409, "It has ended.")


@pytest.mark.parametrize("answer", [(200, []), (200, {}), (200, "text")], ids=["list", "empty", "text"])
def test_a_success_that_names_no_job_is_a_fault(kind: str, answer: tuple[int, Any]) -> None:
    with BatchServer(lambda _: answer) as server, pytest.raises(TransportFault) as caught:
        with_api(target_of(kind, server), lambda api: api.create(Path(__file__), "files/1", "label"))

    assert caught.value.kind == FailureKind.MALFORMED


def test_a_lost_connection_is_a_fault_and_nothing_is_posted_again(kind: str) -> None:
    with BatchServer(lambda _: None) as server, pytest.raises(TransportFault) as caught:
        with_api(target_of(kind, server), lambda api: api.create(Path(__file__), "files/1", "label"))

    assert caught.value.kind == FailureKind.CONNECTION
    assert len(server.asked) == 1
