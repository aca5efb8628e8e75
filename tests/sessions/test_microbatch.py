"""Calls that are asked together leave together, and what is stopped never leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pllm_notebook.failures import FailureKind
from pllm_notebook.sessions import Call, Throttler
from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.sessions.session_store import SessionStore
from pllm_notebook.sessions.strategies.microbatch import MicroBatcher


class Sent:
    """Stands where calls are sent from."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.stops: list[Callable[[], None]] = []
        self.some = threading.Event()
        self.error: Exception | None = None

    def send(self, questions: list[SessionCall], *, keep: bool) -> None:
        self.groups.append([question.key for question in questions])
        self.some.set()
        if self.error is not None:
            raise self.error

    def stop_first(self, stop: Callable[[], None]) -> None:
        self.stops.append(stop)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def asked(folder: Path, count: int) -> list[SessionCall]:
    place = SessionStore(folder)
    return [SessionCall(place, Call("openai:gpt-6-luna", f"leaf {n}"), f"{n}") for n in range(count)]


def until_idle() -> None:
    for thread in [thread for thread in threading.enumerate() if thread.name == "pllm-asking"]:
        thread.join(60)


def gathering(sent: Any, throttler: Throttler | None = None) -> MicroBatcher:
    return MicroBatcher(sent, throttler, keep=True)


def test_every_call_leaves_once_and_in_order(tmp_path: Path) -> None:
    sent = Sent()
    gathered = gathering(sent)

    for question in asked(tmp_path, 50):
        gathered.add(question)
    until_idle()

    assert [key for group in sent.groups for key in group] == [f"{n}" for n in range(50)]


def test_a_window_is_not_passed_whatever_was_asked(tmp_path: Path) -> None:
    sent, clock = Sent(), Clock()
    gathered = gathering(sent, Throttler(2, 60.0, clock=clock))
    for question in asked(tmp_path, 5):
        gathered.add(question)
    assert sent.some.wait(60)

    clock.now = 60.0
    gathered.flush()
    clock.now = 120.0
    until_idle()

    assert len(sent.groups[0]) <= 2
    assert [key for group in sent.groups for key in group] == [f"{n}" for n in range(5)]


def test_what_is_stopped_never_leaves(tmp_path: Path) -> None:
    sent, clock = Sent(), Clock()
    gathered = gathering(sent, Throttler(1, 60.0, clock=clock))
    questions = asked(tmp_path, 4)
    for question in questions:
        gathered.add(question)
    assert sent.some.wait(60)

    sent.stops[0]()
    clock.now = 1000.0
    until_idle()

    assert sent.groups == [["0"]]
    assert [question.error and question.error.kind for question in questions] == [None] + [FailureKind.CANCELLED] * 3


def test_a_fault_of_sending_is_told_to_whoever_waits(tmp_path: Path) -> None:
    sent = Sent()
    sent.error = RuntimeError("no room")
    (question,) = asked(tmp_path, 1)

    gathering(sent).add(question)

    assert question.done.wait(60)
    with pytest.raises(RuntimeError, match="no room"):
        question.answer()
