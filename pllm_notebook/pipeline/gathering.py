"""Calls gather for a moment and leave together, from a thread of their own: asking never blocks."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Sequence

from pllm_notebook.pipeline.questions import Question
from pllm_notebook.pipeline.sending import Courier
from pllm_notebook.pipeline.throttling import Throttler

__all__ = ["Gathering"]

# A program asks its next call within microseconds; whoever waits for a value does not wait for this.
_WINDOW_S = 0.003


class Gathering:
    """What is asked and not sent. Its thread lives while there is something.

    Args:
        courier: Sends it.
        throttler: The caller's own pace, None for none.
        keep: Whether answers are stored.
        most: Calls that are on their way at once, None for as many as there are.
    """

    def __init__(self, courier: Courier, throttler: Throttler | None, *, keep: bool, most: int | None = None) -> None:
        self._courier = courier
        self._throttler = throttler
        self._keep = keep
        self._most = most
        # Due, and not sent because `most` are on their way; and how many are.
        self._held: deque[Question] = deque()
        self._flying = 0
        self._new: list[Question] = []
        # By the moment from which they may begin, on the throttler's clock, and the order they were asked in.
        self._later: list[tuple[float, int, Question]] = []
        self._count = 0
        self._changed = threading.Condition(threading.RLock())
        self._hurried = self._working = False
        courier.stop_first(self.stop)

    def __repr__(self) -> str:
        return f"Gathering(new={len(self._new)}, held={len(self._held)}, later={len(self._later)})"

    def add(self, question: Question) -> None:
        """Send *question* in a moment; returns at once."""
        with self._changed:
            self._new.append(question)
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="pllm-asking", daemon=True).start()

    def hurry(self) -> None:
        """Send what has gathered now: somebody waits for it."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Send nothing of what has gathered; whoever waits for it is told."""
        with self._changed:
            dropped = [*self._new, *self._held, *(question for _, _, question in self._later)]
            self._new.clear()
            self._held.clear()
            self._later.clear()
            self._changed.notify_all()
        for question in dropped:
            question.broken(None, None)

    def _work(self) -> None:
        while True:
            due = self._next()
            if due is None:
                return
            try:
                self._courier.send(due, keep=self._keep)
            except BaseException as error:  # whoever waits for them is told, on a thread that can show it
                for question in due:
                    question.broken(None, error)

    def _next(self) -> Sequence[Question] | None:
        """Wait for what is to be sent; None, and the thread is to end, when there is nothing left."""
        with self._changed:
            while True:
                if self._new and not self._hurried:
                    self._changed.wait(_WINDOW_S)
                self._hurried = False
                due = self._admitted(self._due())
                if due:
                    return due
                if self._held:
                    self._changed.wait()
                    continue
                if not self._later:
                    if self._new:
                        continue
                    self._working = False
                    return None
                self._changed.wait(self._wait_s())

    def _due(self) -> Sequence[Question]:
        new, self._new = self._new, []
        if self._throttler is None:
            return new
        for question, at in zip(new, self._throttler.book(len(new)), strict=True):
            self._count += 1
            heapq.heappush(self._later, (at, self._count, question))
        due = []
        now = self._throttler.clock()
        while self._later and self._later[0][0] <= now:
            due.append(heapq.heappop(self._later)[2])
        return due

    def _admitted(self, due: Sequence[Question]) -> Sequence[Question]:
        """Return what may be sent now. Each tells when it has ended, however it did."""
        if self._most is None:
            return due
        self._held.extend(due)
        admitted = []
        while self._held and self._flying < self._most:
            question = self._held.popleft()
            self._flying += 1
            admitted.append(question)
        for question in admitted:
            question.when_done(self._landed)
        return admitted

    def _landed(self) -> None:
        with self._changed:
            self._flying -= 1
            self._changed.notify_all()

    def _wait_s(self) -> float:
        assert self._throttler is not None
        # A clock may be a caller's own; the thread looks again before long.
        return min(max(self._later[0][0] - self._throttler.clock(), 0.0), 0.1) or 0.001
