"""The strategies that gather: nothing is sent before a value is needed that is not there."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pllm_notebook.pipeline.frontiers import Circumstances, advance, await_jobs, jobs_of
from pllm_notebook.pipeline.gathering import Gathering
from pllm_notebook.pipeline.pausing import Paused, Summary
from pllm_notebook.pipeline.questions import Question
from pllm_notebook.pipeline.strategies import Strategy
from pllm_notebook.run import confirm

__all__ = ["Batch", "DryRun", "Hybrid"]


class Batch(Strategy):
    """Calls gather until a value is needed that is not there; then all go as batch jobs, and the block ends.

    Past a point where something is awaited the program goes on only when all that was gathered there is done, so
    that every run of the program takes the same way.
    """

    def __init__(self, around: Circumstances) -> None:
        super().__init__(around)
        # A program's threads that need a value at once make one frontier, and ask a person once.
        self._lock = threading.RLock()

    @property
    def gathers(self) -> bool:
        return True

    def need(self, question: Question) -> None:
        with self._lock:
            # A program that looks at 10,000 known answers does not go through all of them each time.
            self._open = [each for each in self._open if not each.done.is_set()]
            if not question.done.is_set() or any(each.stage == "pending" for each in self._open):
                if question not in self._open:
                    self._open.append(question)
                self.barrier()

    def barrier(self) -> None:
        with self._lock:
            questions = self._undone()
            if questions:
                self._submit(questions)
            self._open.clear()

    def drain(self) -> None:
        """Do nothing: what it sends live it waits for at once."""

    def _undone(self) -> list[Question]:
        """Return what is not done, as the store, the journal and the failures say now."""
        place = self._around.place
        questions = [question for question in self._open if not question.done.is_set()]
        keys = [question.key for question in questions]
        there, jobs = place.store.get_many(keys), place.jobs(keys)
        for question in questions:
            # Looked at one by one only where something has changed since it was asked.
            if question.stage == "pending" or question.key in jobs or (question.key in there and not question.anew):
                question.look()
        return [question for question in questions if not question.done.is_set()]

    def _submit(self, questions: Sequence[Question]) -> None:
        new = [question for question in questions if question.stage == "asked"]
        if new and self._around.confirm:
            estimate = self._around.courier.estimate(new, "batch")
            if estimate is not None:
                confirm(estimate)
        advance(self._around, questions, new)


class Hybrid(Batch):
    """What is many goes by batch; what the program waits for alone, or with a few others, goes live.

    Args:
        around: What it works with.
        batch_from: As many calls at one point are many.
    """

    def __init__(self, around: Circumstances, batch_from: int) -> None:
        super().__init__(around)
        self._batch_from = batch_from
        self._live = Gathering(around.courier, around.throttler, keep=around.keep, most=around.most)

    def _submit(self, questions: Sequence[Question]) -> None:
        new = [question for question in questions if question.stage == "asked"]
        if len(new) >= self._batch_from:
            super()._submit(questions)
            return
        for question in new:
            self._live.add(question)
        self._live.hurry()
        for question in new:
            self._around.courier.wait(question.done)
        await_jobs(self._around, questions)


class DryRun(Batch):
    """Nothing is sent: the block ends at the first value that is not there, with what would have been asked.

    Args:
        around: What it works with.
        mode: How it would have been sent: "async" or "batch".
    """

    def __init__(self, around: Circumstances, mode: str) -> None:
        super().__init__(around)
        self._mode = mode

    def _submit(self, questions: Sequence[Question]) -> None:
        new = [question for question in questions if question.stage == "asked"]
        waiting = [question for question in questions if question.stage == "pending"]
        estimate = self._around.courier.estimate(new, self._mode)
        raise Paused(
            Summary(
                self._around.place.directory,
                awaited=len(waiting),
                awaited_jobs=len(jobs_of(self._around, waiting)),
                estimate=estimate,
                simulated=estimate is not None and estimate.simulated,
            )
        )
