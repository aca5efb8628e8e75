"""Scripted answers, as functions from a request to an answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd

from pllm_notebook.sim import SimRequest

__all__ = ["InTurn", "by_word", "words"]


class InTurn:
    """Give each prompt these answers one after the other, and the last for ever."""

    def __init__(self, *answers: Any) -> None:
        self._answers = answers
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: SimRequest) -> Any:
        with self._lock:
            nth = self._asked[request.messages[0][1]]
            self._asked[request.messages[0][1]] += 1
        return self._answers[min(nth, len(self._answers) - 1)]


def by_word(answers: dict[str, Any], otherwise: Callable[[SimRequest], Any]) -> Callable[[SimRequest], Any]:
    """Answer by the first of the words that the row's prompt holds."""

    def answer(request: SimRequest) -> Any:
        for word, given in answers.items():
            if word in request.messages[0][1]:
                return given(request) if callable(given) else given
        return otherwise(request)

    return answer


def words(*rows: str) -> pd.DataFrame:
    """A frame of one column, `text`."""
    # Objects, since a column of Arrow text cannot hold half a surrogate pair.
    return pd.DataFrame({"text": list(rows)}, dtype="object")
