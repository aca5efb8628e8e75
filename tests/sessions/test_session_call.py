"""A call hears of the run that it is sent in, and of no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.sessions import Call, ErrorResponse
from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.sessions.session_store import SessionStore

REFUSED = Failure(FailureKind.REFUSAL, "No.")


@pytest.fixture
def question(tmp_path: Path) -> SessionCall:
    return SessionCall(SessionStore(tmp_path), Call("openai:gpt-6-luna", "Well?", agent="one"), "key")


def test_a_run_that_ends_late_says_nothing_of_a_call_that_was_asked_again(question: SessionCall) -> None:
    earlier, later = object(), object()
    question.sent(earlier, "sent")
    question.on_result(earlier, None, REFUSED)
    question.reset()
    question.sent(later, "sent")

    question.on_result(earlier, None, REFUSED)
    question.on_abort(earlier, None)

    assert (question.stage, question.done.is_set(), question.error) == ("sent", False, None)


def test_the_end_of_a_run_is_news_only_to_calls_that_it_left(question: SessionCall) -> None:
    sending = object()
    question.sent(sending, "sent")
    question.on_result(sending, None, REFUSED)

    question.on_abort(sending, RuntimeError())

    with pytest.raises(ErrorResponse, match=r"^one, call 0, refusal: No\. It is stored, and not retried until"):
        question.answer()


def test_what_ended_a_run_is_raised_to_whoever_waits_for_its_calls(question: SessionCall) -> None:
    sending, fault = object(), RuntimeError("disk")
    question.sent(sending, "sent")

    question.on_abort(sending, fault)

    with pytest.raises(RuntimeError, match="disk"):
        question.answer()


def test_a_call_that_was_stopped_is_not_kept_as_a_failure(question: SessionCall) -> None:
    question.on_abort(None, None)

    assert str(question.error) == "one, call 0, cancelled: The program was stopped before this was answered."


@pytest.mark.parametrize("cost_usd", [None, 0.0, 0.25])
def test_a_failure_costs_what_is_known_of_its_cost(question: SessionCall, cost_usd: float | None) -> None:
    sending = object()
    question.sent(sending, "sent")

    question.on_result(sending, None, Failure(FailureKind.REFUSAL, "No.", cost_usd=cost_usd))

    assert question.cost_usd == cost_usd
