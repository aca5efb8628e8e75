"""Waiting for work on another thread: who is called back, and what an interrupt does."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from pllm_notebook.engine import EndEvent, await_end, block_until
from tests.engine.virtual import run_virtual


class Interrupted(threading.Event):
    """An event during whose first waits the main thread gets an interrupt each."""

    def __init__(self, interrupts: int) -> None:
        super().__init__()
        self._left = interrupts

    def wait(self, timeout: float | None = None) -> bool:
        if self._left:
            self._left -= 1
            signal.raise_signal(signal.SIGINT)
        return super().wait(0.0)


def test_a_callback_is_called_once_however_often_the_event_is_set() -> None:
    event, calls = EndEvent(), []

    event.when_set(lambda: calls.append("before"))
    event.set()
    event.clear()
    event.set()

    assert calls == ["before"]


def test_a_callback_given_after_the_end_is_called_at_once() -> None:
    event, calls = EndEvent(), []
    event.set()

    event.when_set(lambda: calls.append("after"))

    assert calls == ["after"]


def test_the_callbacks_of_a_marked_event_are_left_to_the_caller() -> None:
    event, calls = EndEvent(), []
    event.when_set(lambda: calls.append("back"))

    callbacks = event.mark()

    assert (event.is_set(), calls, len(callbacks)) == (True, [], 1)


def test_a_wait_ends_when_its_work_ends() -> None:
    event = EndEvent()
    threading.Thread(target=event.set).start()

    block_until(event, lambda: pytest.fail("nothing interrupts it"), loop=None)

    assert event.is_set()


def test_a_wait_ends_after_its_timeout() -> None:
    block_until(threading.Event(), lambda: pytest.fail("nothing interrupts it"), loop=None, timeout_s=0.01)


def test_the_first_interrupt_cancels_the_work_and_waits_for_it() -> None:
    event = Interrupted(1)
    cancelled = []

    def cancel() -> None:
        cancelled.append(True)
        event.set()

    with pytest.raises(KeyboardInterrupt, match=r"^Stopped at 3 of 4\.$"):
        block_until(event, cancel, loop=None, message=lambda: "Stopped at 3 of 4.")

    assert cancelled == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_interrupt_gives_up_waiting() -> None:
    cancelled: list[bool] = []

    with pytest.raises(KeyboardInterrupt, match="What has arrived is kept"):
        block_until(Interrupted(2), lambda: cancelled.append(True), loop=None)

    assert cancelled == [True]


def test_an_error_in_waiting_cancels_the_work() -> None:
    class Broken(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise ZeroDivisionError

    cancelled: list[bool] = []

    with pytest.raises(ZeroDivisionError):
        block_until(Broken(), lambda: cancelled.append(True), loop=None)

    assert cancelled == [True]


def test_a_cancelled_await_cancels_the_work_and_waits_until_it_has_ended() -> None:
    async def main() -> tuple[list[float], float]:
        loop = asyncio.get_running_loop()
        event, cancelled = EndEvent(), []

        def cancel() -> None:
            cancelled.append(loop.time())
            loop.call_later(3.0, event.set)

        waiting = loop.create_task(await_end(event, cancel))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return cancelled, loop.time()

    assert run_virtual(main) == ([pytest.approx(1.0)], 4.0)


@pytest.mark.parametrize("again", [False, True])
def test_a_cancelled_await_is_shown_as_one_line(again: bool) -> None:
    async def main() -> Any:
        waiting = asyncio.create_task(await_end(EndEvent(), lambda: None, message=lambda: "Stopped at 3 of 4."))
        await asyncio.sleep(1)
        waiting.cancel()
        if again:
            await asyncio.sleep(1)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await waiting
        return cancelled.value

    assert run_virtual(main)._render_traceback_() == ["CancelledError: Stopped at 3 of 4."]


def test_a_cancelled_await_gives_up_on_work_that_does_not_end() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        waiting = loop.create_task(await_end(EndEvent(), lambda: None))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return loop.time()

    assert run_virtual(main) == 11.0
