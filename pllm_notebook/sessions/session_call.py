"""The state of a call in a session, and its result."""

from __future__ import annotations

import threading
import time
from typing import Literal

from pllm_notebook.engine import EndEvent, await_end
from pllm_notebook.execution import Outcome
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.sessions.call import Call
from pllm_notebook.sessions.error_response import STORED_KINDS, ErrorResponse
from pllm_notebook.sessions.session_store import Absent, AnswerRecord, Failed, Pending, Present, Retrieved, SessionStore

__all__ = ["STOPPED_LINE", "SessionCall", "Stage"]

STOPPED_LINE = "Stopped. Answers are stored. Run the program again to continue. Batch jobs keep running."

Stage = Literal["asked", "cached", "sent", "stored", "pending", "failed"]


class SessionCall:
    """One call of a session; equal calls share one. Completed on the engine's loop, read from any thread.

    Attributes:
        stage: "asked" (collected, not sent), "cached" (answered from the store), "sent", "stored" (sent and answered),
            "pending" (in a batch job) or "failed".
        refresh_cache: Whether the store has an outdated answer that a new one replaces.
        since: Earlier answers and failures are outdated; seconds since the epoch, None for no limit.
        run_error: The exception that ended its run, None for none.
        submitted: Whether the call was passed to the strategy.
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
        """Look up the call, and take over the result."""
        found = self._session_store.retrieve(self.call, self.since)
        if isinstance(found, Present):
            self._answer = found.answer
            self._end("cached" if self._relay is None else "stored")
        elif isinstance(found, Failed):
            self._error = found.error
            self._end("failed")
        else:
            self._set_waiting("pending" if isinstance(found, Pending) else "asked", found.stale)
        return found

    def reopen(self) -> None:
        """Discard the result, so that the call can be sent again."""
        with self._lock:
            self.stage, self.refresh_cache, self.run_error, self.submitted = "asked", False, None, False
            self._answer = self._error = self._outcome = self._relay = None
            self.done.clear()

    def reset(self) -> None:
        """Reopen the call and treat stored answers as outdated."""
        self.reopen()
        self.refresh_cache, self.since = True, time.time()

    def sent(self, relay: object, stage: Stage) -> None:
        """Mark the call as sent. From now on, only results of *relay* are accepted."""
        with self._lock:
            self.stage, self._relay = stage, relay

    def on_result(self, relay: object, outcome: Outcome | None, failure: Failure | None) -> None:
        """Accept the result of a run. Called on the engine's loop."""
        if relay is not self._relay:
            return
        self._outcome = outcome
        if failure is not None:
            self._error = ErrorResponse(self.call, failure)
        self._end("stored" if failure is None else "failed")

    def reject(self, error: ErrorResponse) -> None:
        """Fail the call without sending it."""
        self._error = error
        self._end("failed")

    def on_abort(self, relay: object, run_error: BaseException | None) -> None:
        """Fail the call because its run ended without a result. *run_error* is None if the run was stopped."""
        if self.done.is_set() or relay is not self._relay:
            return
        self.run_error = run_error
        if run_error is None:
            stopped = Failure(FailureKind.CANCELLED, "The program was stopped before this was answered.")
            self._error = ErrorResponse(self.call, stopped)
        self._end("failed")

    @property
    def error(self) -> ErrorResponse | None:
        """The reason why there is no answer. None if there is one or the call is not done."""
        return self._error

    @property
    def problem(self) -> BaseException | None:
        """What `answer` raises: `run_error`, otherwise `error`. None if there is an answer or the call is not done."""
        return self._error if self.run_error is None else self.run_error

    @property
    def may_pass(self) -> bool:
        """Whether it was stopped, or failed for a reason outside the call, such as a rejected key or a full disk."""
        if self.run_error is not None:
            return True
        # Without a key the prompt is invalid, which no attempt changes.
        return self._error is not None and bool(self.key) and self._error.kind not in STORED_KINDS

    def failed_with(self, kinds: frozenset[FailureKind] | None) -> bool:
        """Return whether it failed with one of *kinds*; None for any, and for an exception that ended its run."""
        if kinds is None:
            return self.problem is not None
        return self._error is not None and self._error.kind in kinds

    def answer(self) -> AnswerRecord:
        """Return the answer of a completed call.

        Raises:
            ErrorResponse: If it has failed.
            BaseException: The exception that ended its run.
        """
        if (problem := self.problem) is not None:
            raise problem
        if self._answer is None:
            # Read on demand: a program that makes 10,000 calls may read few of the answers.
            self._answer = self._read()
        return self._answer

    def _read(self) -> AnswerRecord:
        outcome = self._outcome
        assert outcome is not None
        if outcome.entry is not None:  # not in the store
            return AnswerRecord.of(self._session_store.spec(self.call), outcome, outcome.entry)
        found = self._session_store.retrieve(self.call)
        if isinstance(found, Present):
            return found.answer
        # The directory was emptied meanwhile.
        about, value = outcome.replies()[-1], outcome.value
        text, usage = value if isinstance(value, str) else "", outcome.usage
        return AnswerRecord(value, text, (), None, about["model"], usage, outcome.cost_usd, about["created_at"])

    def retrieve(self) -> Retrieved:
        """Look up the call. An outdated answer counts as absent. Sends nothing.

        Raises:
            ErrorResponse: If its prompt is invalid.
        """
        if self._outcome is not None and self._outcome.failure is None and self._outcome.entry is not None:
            return Present(self.answer())  # not in the store
        found = self._session_store.retrieve(self.call, self.since)
        if isinstance(found, Absent) and self._error is not None:
            return Failed(self._error, paid=False)  # not stored: the next run of the program sends it again
        return found

    @property
    def cost_usd(self) -> float | None:
        """Cost of the answer or failure when it was paid for, in US dollars.

        0.0 until the call is done. None for an answer or failure with an unknown cost.
        """
        if not self.done.is_set() or self.run_error is not None:
            return 0.0
        if self._error is not None:
            return self._error.failure.cost_usd
        if self._answer is not None:
            return self._answer.cost_usd
        return None if self._outcome is None else self._outcome.cost_usd

    async def ended(self) -> None:
        """Wait until the call is done, on the caller's event loop."""
        await await_end(self.done, message=lambda: STOPPED_LINE)

    def _set_waiting(self, stage: Stage, stale: bool) -> None:
        with self._lock:
            # A call that was sent or completed meanwhile keeps its stage.
            if self.stage in ("asked", "pending") and self._relay is None:
                self.stage, self.refresh_cache = stage, stale

    def _end(self, stage: Stage) -> None:
        with self._lock:
            self.stage = stage
            callbacks = self.done.mark()
        for callback in callbacks:
            callback()
