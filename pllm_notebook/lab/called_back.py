"""Run a blocking library with callbacks as steps: in a thread, with its requests awaited outside that thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from pllm_notebook.execution import Steps

__all__ = ["Ask", "called_back"]

T = TypeVar("T")

Ask = Callable[[Steps[Any]], Any]
"""Drives steps outside the library's thread and returns their result inside it."""


class _Abandoned(BaseException):
    """Ends the library's thread. Not an Exception, because the library would treat that as a failed row."""


class _Ended(NamedTuple):
    result: Any
    error: BaseException | None


def called_back(work: Callable[[Ask], T]) -> Steps[T]:
    """Run *work* in a separate thread and serve its requests.

    The driver of these steps blocks only while the library computes. Runs are started and awaited in the driver's
    thread, where the kernel knows which cell is running.

    Args:
        work: Calls the library with callbacks that send requests.

    Raises:
        Exception: Any exception of *work*. An interrupt ends its thread at the interrupted step.
    """
    asked: SimpleQueue[Steps[Any] | _Ended] = SimpleQueue()
    replies: SimpleQueue[_Ended] = SimpleQueue()
    is_over = threading.Event()

    def ask(steps: Steps[Any]) -> Any:
        if is_over.is_set():
            raise _Abandoned
        asked.put(steps)
        result, error = replies.get()
        if error is not None:
            raise error
        return result

    def run() -> None:
        try:
            asked.put(_Ended(work(ask), None))
        except BaseException as error:
            asked.put(_Ended(None, error))

    thread = threading.Thread(target=run, name="pllm-callbacks", daemon=True)
    thread.start()
    try:
        while True:
            one = asked.get()
            if isinstance(one, _Ended):
                if one.error is not None:
                    raise one.error
                result: T = one.result
                return result
            try:
                reply = _Ended((yield from one), None)
            except Exception as error:
                reply = _Ended(None, error)
            replies.put(reply)
    finally:
        is_over.set()
        replies.put(_Ended(None, _Abandoned()))
