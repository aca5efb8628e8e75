"""Collect calls for a moment and send them together from a separate thread, so that `ask_llm` never blocks."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Sequence

from pllm_notebook.sessions.sender import SessionSender
from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.sessions.throttler import Throttler

__all__ = ["MicroBatcher"]

# A program makes its next call within microseconds; waiting for a value flushes at once.
_WINDOW_S = 0.003


class MicroBatcher:
    """A queue of calls that are not sent yet, and its thread, which ends when the queue is empty.

    Args:
        sender: Starts the runs.
        throttler: The caller's own rate limit, None for none.
        keep: Whether answers are stored.
        max_in_flight: Maximum number of calls in flight. None for no limit.
    """

    def __init__(
        self, sender: SessionSender, throttler: Throttler | None, *, keep: bool, max_in_flight: int | None = None
    ) -> None:
        self._sender = sender
        self._throttler = throttler
        self._keep = keep
        self._max_in_flight = max_in_flight
        # Calls that are due but held back by `max_in_flight`, and the number in flight.
        self._queued: deque[SessionCall] = deque()
        self._in_flight = 0
        self._new: list[SessionCall] = []
        # A heap by the time from which each may start, on the throttler's clock, and the order of the calls.
        self._later: list[tuple[float, int, SessionCall]] = []
        self._count = 0
        self._changed = threading.Condition(threading.RLock())
        self._flush_now = self._working = False
        sender.stop_first(self.stop)

    def __repr__(self) -> str:
        return f"MicroBatcher(new={len(self._new)}, held={len(self._queued)}, later={len(self._later)})"

    def add(self, session_call: SessionCall) -> None:
        """Queue a call and return immediately."""
        with self._changed:
            self._new.append(session_call)
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="pllm-asking", daemon=True).start()

    def flush(self) -> None:
        """Send the queued calls now: a value is being waited for."""
        with self._changed:
            self._flush_now = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Drop the queued calls, which fail as cancelled."""
        with self._changed:
            dropped = [*self._new, *self._queued, *(session_call for _, _, session_call in self._later)]
            self._new.clear()
            self._queued.clear()
            self._later.clear()
            self._changed.notify_all()
        for session_call in dropped:
            session_call.on_abort(None, None)

    def _work(self) -> None:
        while True:
            due = self._next()
            if due is None:
                return
            try:
                self._sender.send(due, keep=self._keep)
            except BaseException as error:  # raised again on the thread that waits for them
                for session_call in due:
                    session_call.on_abort(None, error)

    def _next(self) -> Sequence[SessionCall] | None:
        """Wait for calls to send. Return None, which ends the thread, when none are left."""
        with self._changed:
            while True:
                if self._new and not self._flush_now:
                    self._changed.wait(_WINDOW_S)
                self._flush_now = False
                due = self._admitted(self._due())
                if due:
                    return due
                if self._queued:
                    self._changed.wait()
                    continue
                if not self._later:
                    if self._new:
                        continue
                    self._working = False
                    return None
                self._changed.wait(self._wait_s())

    def _due(self) -> Sequence[SessionCall]:
        new, self._new = self._new, []
        if self._throttler is None:
            return new
        for session_call, at in zip(new, self._throttler.book(len(new)), strict=True):
            self._count += 1
            heapq.heappush(self._later, (at, self._count, session_call))
        due = []
        now = self._throttler.clock()
        while self._later and self._later[0][0] <= now:
            due.append(heapq.heappop(self._later)[2])
        return due

    def _admitted(self, due: Sequence[SessionCall]) -> Sequence[SessionCall]:
        """Return the calls that may be sent now. Each frees its slot when it is done."""
        if self._max_in_flight is None:
            return due
        self._queued.extend(due)
        admitted = []
        while self._queued and self._in_flight < self._max_in_flight:
            session_call = self._queued.popleft()
            self._in_flight += 1
            admitted.append(session_call)
        for session_call in admitted:
            session_call.done.when_set(self._on_done)
        return admitted

    def _on_done(self) -> None:
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def _wait_s(self) -> float:
        assert self._throttler is not None
        # The caller's clock may run faster than real time, so never wait long.
        return min(max(self._later[0][0] - self._throttler.clock(), 0.0), 0.1) or 0.001
