"""A call as one session goes through with it: where it stands, and what came of it."""

from __future__ import annotations

import threading
import time
from typing import Literal

from pllm_notebook.engine import EndEvent, await_end
from pllm_notebook.execution import Outcome
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.sessions.call import Call
from pllm_notebook.sessions.error_response import ErrorResponse
from pllm_notebook.sessions.session_store import Absent, AnswerRecord, Failed, Pending, Present, Retrieved, SessionStore

__all__ = ["SessionCall", "Stage"]


Stage = Literal["asked", "cached", "sent", "stored", "pending", "failed"]


class SessionCall:
    """One call of a session; equal calls are one. Ended from the engine's loop, read from any thread.

    Args:
        session_store: Where its answer is kept.
        call: What is asked, as it was asked first.
        key: Of the call.
        since: As the attribute.

    Attributes:
        stage: "asked" (gathered, and not sent), "cached" (the answer was there), "sent", "stored" (sent, and the
            answer is there), "pending" (in a batch job) or "failed".
        refresh_cache: Whether there is a stored answer that does not count, and is to be replaced.
        since: Answers and failures from before do not count, None for any age; seconds since the epoch.
        run_error: What ended the run that it was sent in, None for nothing.
        submitted: Whether the strategy knows of it.
    """

    def __init__(self, session_store: SessionStore, call: Call, key: str, since: float | None = None) -> None:
        self.call = call
        self.key = key
        self.stage: Stage = "asked"
        self.refresh_cache = False
        self.since = since
        self.run_error: BaseException | None = None
        self.submitted = False
        self.done = EndEvent()
        self._session_store = session_store
        self._answer: AnswerRecord | None = None
        self._error: ErrorResponse | None = None
        self._outcome: Outcome | None = None
        self._relay: object = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"SessionCall({self.call.agent!r}, {self.call.number}, {self.stage})"

    def refresh(self) -> Retrieved:
        """Look what there is of it, and take that over."""
        found = self._session_store.retrieve(self.call, self.since)
        if isinstance(found, Present):
            self._answer = found.answer
            self._end("cached" if self._relay is None else "stored")
        elif isinstance(found, Failed):
            self._error = found.error
            self._end("failed")
        else:
            self._waits("pending" if isinstance(found, Pending) else "asked", found.stale)
        return found

    def reopen(self) -> None:
        """Begin over: whatever came of it here is not looked at any more."""
        with self._lock:
            self.stage, self.refresh_cache, self.run_error, self.submitted = "asked", False, None, False
            self._answer = self._error = self._outcome = self._relay = None
            self.done.clear()

    def reset(self) -> None:
        """Ask it again, whatever is stored."""
        self.reopen()
        self.refresh_cache, self.since = True, time.time()

    def sent(self, relay: object, stage: Stage) -> None:
        """Note that it is being sent; *sending* is the run, and no other run is listened to from here on."""
        with self._lock:
            self.stage, self._relay = stage, relay

    def on_result(self, relay: object, outcome: Outcome | None, failure: Failure | None) -> None:
        """Note how it ended in a run. On the engine's loop."""
        if relay is not self._relay:
            return
        self._outcome = outcome
        if failure is not None:
            self._error = ErrorResponse(self.call, failure)
        self._end("stored" if failure is None else "failed")

    def reject(self, error: ErrorResponse) -> None:
        """Note that it cannot be sent at all."""
        self._error = error
        self._end("failed")

    def on_abort(self, relay: object, run_error: BaseException | None) -> None:
        """Note that its run ended without an outcome for it, or never began; *fault* is None where it was stopped."""
        if self.done.is_set() or relay is not self._relay:
            return
        self.run_error = run_error
        if run_error is None:
            stopped = Failure(FailureKind.CANCELLED, "The program was stopped before this was answered.")
            self._error = ErrorResponse(self.call, stopped)
        self._end("failed")

    @property
    def error(self) -> ErrorResponse | None:
        """Why there is no answer, None where there is one, or none yet."""
        return self._error

    def answer(self) -> AnswerRecord:
        """Return the answer of one that is done.

        Raises:
            ErrorResponse: Where it has failed.
            BaseException: What ended its run.
        """
        if self.run_error is not None:
            raise self.run_error
        if self._error is not None:
            raise self._error
        if self._answer is None:
            # Read when it is asked for: a program that asks 10,000 calls may look at few of them.
            self._answer = self._read()
        return self._answer

    def _read(self) -> AnswerRecord:
        outcome = self._outcome
        assert outcome is not None
        if outcome.entry is not None:  # kept nowhere else
            return AnswerRecord.of(self._session_store.ask(self.call), outcome, outcome.entry)
        found = self._session_store.retrieve(self.call)
        if isinstance(found, Present):
            return found.answer
        # Somebody has emptied the directory meanwhile.
        about, value = outcome.replies()[-1], outcome.value
        text, usage = value if isinstance(value, str) else "", outcome.usage
        return AnswerRecord(value, text, (), None, about["model"], usage, outcome.cost_usd, about["created_at"])

    def retrieve(self) -> Retrieved:
        """Return what there is of it, as this session counts: what is to be replaced is not an answer. Sends nothing.

        Raises:
            ErrorResponse: Where its prompt is none that can be sent.
        """
        if self._outcome is not None and self._outcome.failure is None and self._outcome.entry is not None:
            return Present(self.answer())  # kept nowhere else
        found = self._session_store.retrieve(self.call, self.since)
        if isinstance(found, Absent) and self._error is not None:
            return Failed(self._error, paid=False)  # of this run alone: the next one asks it again
        return found

    @property
    def cost_usd(self) -> float | None:
        """What its answer, or its failure, cost whenever it was paid; 0.0 while there is none, None for unknown."""
        if not self.done.is_set() or self.run_error is not None:
            return 0.0
        if self._error is not None:
            return self._error.failure.cost_usd or 0.0
        if self._answer is not None:
            return self._answer.cost_usd
        return None if self._outcome is None else self._outcome.cost_usd

    async def ended(self) -> None:
        """Wait for its end on the caller's own loop."""
        await await_end(self.done)

    def _waits(self, stage: Stage, stale: bool) -> None:
        with self._lock:
            # What is being sent, or has ended meanwhile, says so itself.
            if self.stage in ("asked", "pending") and self._relay is None:
                self.stage, self.refresh_cache = stage, stale

    def _end(self, stage: Stage) -> None:
        with self._lock:
            self.stage = stage
            callbacks = self.done.mark()
        for callback in callbacks:
            callback()
