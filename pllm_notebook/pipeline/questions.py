"""A call as one session goes through with it: where it stands, and what came of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Literal

from pllm_notebook.pipeline.calls import Call
from pllm_notebook.pipeline.failing import ErrorResponse
from pllm_notebook.pipeline.retrieving import Absent, Answer, Failed, Pending, Place, Present, Retrieved
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.run import Outcome

__all__ = ["Question", "Stage"]

# How often an awaiting loop wakes to hear of an interrupt.
_WAKE_S = 0.1

Stage = Literal["asked", "cached", "sent", "stored", "pending", "failed"]


class Question:
    """One call of a session; equal calls are one. Ended from the engine's loop, read from any thread.

    Args:
        place: Where its answer is kept.
        call: What is asked, as it was asked first.
        key: Of the call.
        since: As the attribute.

    Attributes:
        stage: "asked" (gathered, and not sent), "cached" (the answer was there), "sent", "stored" (sent, and the
            answer is there), "pending" (in a batch job) or "failed".
        anew: Whether there is a stored answer that does not count, and is to be replaced.
        since: Answers and failures from before do not count, None for any age; seconds since the epoch.
        fault: What ended the run that it was sent in, None for nothing.
        handed: Whether the strategy knows of it.
    """

    def __init__(self, place: Place, call: Call, key: str, since: float | None = None) -> None:
        self.call = call
        self.key = key
        self.stage: Stage = "asked"
        self.anew = False
        self.since = since
        self.fault: BaseException | None = None
        self.handed = False
        self.done = threading.Event()
        self._place = place
        self._answer: Answer | None = None
        self._error: ErrorResponse | None = None
        self._outcome: Outcome | None = None
        self._sending: object = None
        self._heard: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Question({self.call.agent!r}, {self.call.number}, {self.stage})"

    def look(self) -> Retrieved:
        """Look what there is of it, and take that over."""
        found = self._place.retrieve(self.call, self.since)
        if isinstance(found, Present):
            self._answer = found.answer
            self._end("cached" if self._sending is None else "stored")
        elif isinstance(found, Failed):
            self._error = found.error
            self._end("failed")
        else:
            self._waits("pending" if isinstance(found, Pending) else "asked", found.stale)
        return found

    def reopen(self) -> None:
        """Begin over: whatever came of it here is not looked at any more."""
        with self._lock:
            self.stage, self.anew, self.fault, self.handed = "asked", False, None, False
            self._answer = self._error = self._outcome = self._sending = None
            self.done.clear()

    def again(self) -> None:
        """Ask it again, whatever is stored."""
        self.reopen()
        self.anew, self.since = True, time.time()

    def sent(self, sending: object, stage: Stage) -> None:
        """Note that it is being sent; *sending* is the run, and no other run is listened to from here on."""
        with self._lock:
            self.stage, self._sending = stage, sending

    def heard(self, sending: object, outcome: Outcome | None, failure: Failure | None) -> None:
        """Note how it ended in a run. On the engine's loop."""
        if sending is not self._sending:
            return
        self._outcome = outcome
        if failure is not None:
            self._error = ErrorResponse(self.call, failure)
        self._end("stored" if failure is None else "failed")

    def refused(self, error: ErrorResponse) -> None:
        """Note that it cannot be sent at all."""
        self._error = error
        self._end("failed")

    def broken(self, sending: object, fault: BaseException | None) -> None:
        """Note that its run ended without an outcome for it, or never began; *fault* is None where it was stopped."""
        if self.done.is_set() or sending is not self._sending:
            return
        self.fault = fault
        if fault is None:
            stopped = Failure(FailureKind.CANCELLED, "The program was stopped before this was answered.")
            self._error = ErrorResponse(self.call, stopped)
        self._end("failed")

    @property
    def error(self) -> ErrorResponse | None:
        """Why there is no answer, None where there is one, or none yet."""
        return self._error

    def answer(self) -> Answer:
        """Return the answer of one that is done.

        Raises:
            ErrorResponse: Where it has failed.
            BaseException: What ended its run.
        """
        if self.fault is not None:
            raise self.fault
        if self._error is not None:
            raise self._error
        if self._answer is None:
            # Read when it is asked for: a program that asks 10,000 calls may look at few of them.
            self._answer = self._read()
        return self._answer

    def _read(self) -> Answer:
        outcome = self._outcome
        assert outcome is not None
        if outcome.entry is not None:  # kept nowhere else
            return Answer.of(self._place.ask(self.call), outcome, outcome.entry)
        found = self._place.retrieve(self.call)
        if isinstance(found, Present):
            return found.answer
        # Somebody has emptied the directory meanwhile.
        about, value = outcome.replies()[-1], outcome.value
        text, usage = value if isinstance(value, str) else "", outcome.usage
        return Answer(value, text, (), None, about["model"], usage, outcome.cost_usd, about["created_at"])

    def retrieve(self) -> Retrieved:
        """Return what there is of it, as this session counts: what is to be replaced is not an answer. Sends nothing.

        Raises:
            ErrorResponse: Where its prompt is none that can be sent.
        """
        if self._outcome is not None and self._outcome.failure is None and self._outcome.entry is not None:
            return Present(self.answer())  # kept nowhere else
        found = self._place.retrieve(self.call, self.since)
        if isinstance(found, Absent) and self._error is not None:
            return Failed(self._error, paid=False)  # of this run alone: the next one asks it again
        return found

    @property
    def cost_usd(self) -> float | None:
        """What its answer, or its failure, cost whenever it was paid; 0.0 while there is none, None for unknown."""
        if not self.done.is_set() or self.fault is not None:
            return 0.0
        if self._error is not None:
            return self._error.failure.cost_usd or 0.0
        if self._answer is not None:
            return self._answer.cost_usd
        return None if self._outcome is None else self._outcome.cost_usd

    def when_done(self, tell: Callable[[], None]) -> None:
        """Call *tell* once when it has ended, however it did; at once where it has. On whichever thread ends it."""
        with self._lock:
            if not self.done.is_set():
                self._heard.append(tell)
                return
        tell()

    async def ended(self) -> None:
        """Await its end on the caller's own loop."""
        here = asyncio.get_running_loop()
        ended: asyncio.Future[None] = here.create_future()

        def end() -> None:
            if not ended.done():
                ended.set_result(None)

        def tell() -> None:
            if not here.is_closed():
                here.call_soon_threadsafe(end)

        self.when_done(tell)
        while not ended.done():
            # Woken now and then: an interrupt is handed to this loop without waking it.
            await asyncio.wait([ended], timeout=_WAKE_S)

    def _waits(self, stage: Stage, stale: bool) -> None:
        with self._lock:
            # What is being sent, or has ended meanwhile, says so itself.
            if self.stage in ("asked", "pending") and self._sending is None:
                self.stage, self.anew = stage, stale

    def _end(self, stage: Stage) -> None:
        with self._lock:
            self.stage = stage
            self.done.set()
            heard, self._heard = self._heard, []
        for tell in heard:
            tell()
