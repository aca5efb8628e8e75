"""A call hears of the run that it is sent in, and of no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pllm_notebook.pipeline import Call, ErrorResponse
from pllm_notebook.pipeline.questions import Question
from pllm_notebook.pipeline.retrieving import Place
from pllm_notebook.records import Failure, FailureKind

REFUSED = Failure(FailureKind.REFUSAL, "No.")


@pytest.fixture
def question(tmp_path: Path) -> Question:
    return Question(Place(tmp_path), Call("openai:gpt-6-luna", "Well?", agent="one"), "key")


def test_a_run_that_ends_late_says_nothing_of_a_call_that_was_asked_again(question: Question) -> None:
    earlier, later = object(), object()
    question.sent(earlier, "sent")
    question.heard(earlier, None, REFUSED)
    question.again()
    question.sent(later, "sent")

    question.heard(earlier, None, REFUSED)
    question.broken(earlier, None)

    assert (question.stage, question.done.is_set(), question.error) == ("sent", False, None)


def test_the_end_of_a_run_is_news_only_to_calls_that_it_left(question: Question) -> None:
    sending = object()
    question.sent(sending, "sent")
    question.heard(sending, None, REFUSED)

    question.broken(sending, RuntimeError())

    with pytest.raises(ErrorResponse, match=r"^one, call 0, refusal: No\. It is kept, and not asked again until"):
        question.answer()


def test_what_ended_a_run_is_raised_to_whoever_waits_for_its_calls(question: Question) -> None:
    sending, fault = object(), RuntimeError("disk")
    question.sent(sending, "sent")

    question.broken(sending, fault)

    with pytest.raises(RuntimeError, match="disk"):
        question.answer()


def test_a_call_that_was_stopped_is_not_kept_as_a_failure(question: Question) -> None:
    question.broken(None, None)

    assert str(question.error) == "one, call 0, cancelled: The program was stopped before this was answered."
