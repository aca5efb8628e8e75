"""When the calls of a program are sent, and what it means to wait for one: the whole difference between strategies.

Whether a value is missing is the store's word (`Place.retrieve`), not a strategy's. Here are those that send a call
as it is asked; those that gather are in `gatherers`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from pllm_notebook.pipeline.frontiers import Circumstances, await_jobs
from pllm_notebook.pipeline.gathering import Gathering
from pllm_notebook.pipeline.questions import Question

__all__ = ["Async", "Strategy", "Sync"]


class Strategy(ABC):
    """One way of going through a program. Used from the program's threads.

    Args:
        around: What it works with.
    """

    def __init__(self, around: Circumstances) -> None:
        self._around = around
        # Asked since the last point that the program has passed for good, and not answered by then.
        self._open: list[Question] = []

    @property
    def gathers(self) -> bool:
        """Whether nothing is sent before a value is needed."""
        return False

    def asked(self, question: Question) -> None:
        """Note a call that the program asks; what there is of it has been looked up."""
        if not question.done.is_set():
            self._open.append(question)

    @abstractmethod
    def need(self, question: Question) -> None:
        """Block until *question* is done.

        Raises:
            Paused: Where the block is to end here.
        """

    def barrier(self) -> None:
        """Block until all that has been asked so far is done.

        Raises:
            Paused: Where the block is to end here.
        """
        for question in self._open:
            self.need(question)
        self._open.clear()

    def finish(self) -> None:
        """See to what was asked and never looked at, at the end of the block.

        Raises:
            Paused: Where some of it is still awaited.
        """
        self.barrier()

    def drain(self) -> None:
        """Wait for what is sent live: it is paid for, and a block that pauses is to have it stored."""
        for question in self._open:
            if question.stage in ("asked", "sent"):
                self._around.courier.wait(question.done)

    def stop(self) -> None:
        """Send nothing more."""
        self._around.courier.stop()


class Sync(Strategy):
    """One call at a time, each to its end before the program goes on: what a debugger steps through."""

    def asked(self, question: Question) -> None:
        super().asked(question)
        self.need(question)

    def need(self, question: Question) -> None:
        if question.stage == "pending":
            await_jobs(self._around, [question])
        if question.stage == "asked":
            self._paced()
            self._around.courier.send([question], keep=self._around.keep)
        self._around.courier.wait(question.done)

    def _paced(self) -> None:
        throttler = self._around.throttler
        if throttler is not None:
            (at,) = throttler.book()
            delay = at - throttler.clock()
            if delay > 0:
                self._around.courier.rest(delay)


class Async(Strategy):
    """Calls are sent as they are asked, a few milliseconds' worth at a time; a value is waited for alone."""

    def __init__(self, around: Circumstances) -> None:
        super().__init__(around)
        self._gathering = Gathering(around.courier, around.throttler, keep=around.keep, most=around.most)

    def asked(self, question: Question) -> None:
        super().asked(question)
        if question.stage == "asked":
            self._gathering.add(question)

    def need(self, question: Question) -> None:
        if question.stage == "pending":
            await_jobs(self._around, [question])
        elif question.stage == "asked":
            self._gathering.hurry()
        self._around.courier.wait(question.done)
