"""Calls that other threads make while collected calls are answered are kept for the next submission."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.sessions import Call, ErrorResponse
from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.sessions.session_store import SessionStore
from pllm_notebook.sessions.strategies.barrier import StrategyContext
from pllm_notebook.sessions.strategies.batched import BatchStrategy


class Answering(BatchStrategy):
    """Answers at once, and runs *meanwhile* during its first answer, as another thread could."""

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context)
        self.groups: list[list[str]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def _answer(self, session_calls: Sequence[SessionCall]) -> None:
        self.groups.append([session_call.key for session_call in session_calls])
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        for session_call in session_calls:
            session_call.reject(ErrorResponse(session_call.call, Failure(FailureKind.REFUSAL, "No.")))


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path)


@pytest.fixture
def strategy(store: SessionStore) -> Answering:
    sender: Any = None  # nothing is sent
    return Answering(StrategyContext(store, sender, None, confirm=False, wait=True, keep=True))


def asked(store: SessionStore, count: int) -> list[SessionCall]:
    return [SessionCall(store, Call("openai:gpt-6-luna", f"leaf {n}"), f"{n}") for n in range(count)]


def test_calls_that_are_made_while_others_are_answered_are_sent_at_the_end(
    store: SessionStore, strategy: Answering
) -> None:
    first, second, third = asked(store, 3)
    strategy.submit(first)
    strategy.meanwhile = lambda: (strategy.submit(second), strategy.submit(third))

    strategy.barrier()
    strategy.finish()

    assert strategy.groups == [["0"], ["1", "2"]]


def test_calls_that_are_made_while_others_are_answered_share_a_submission(
    store: SessionStore, strategy: Answering
) -> None:
    first, second, third = asked(store, 3)
    strategy.submit(first)
    strategy.meanwhile = lambda: (strategy.submit(second), strategy.submit(third))
    strategy.wait_for(first)

    strategy.wait_for(second)
    strategy.wait_for(third)

    assert strategy.groups == [["0"], ["1", "2"]]
