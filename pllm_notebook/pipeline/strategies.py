"""When the calls of a program are sent, and what it means to wait for one: the whole difference between strategies.

Whether a value is missing is the store's word (`Place.retrieve`), not a strategy's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pllm_notebook.batch import Job, State
from pllm_notebook.pipeline.gathering import Gathering
from pllm_notebook.pipeline.pausing import Paused, Summary
from pllm_notebook.pipeline.questions import Question
from pllm_notebook.pipeline.retrieving import Pending, Place
from pllm_notebook.pipeline.sending import Courier
from pllm_notebook.pipeline.throttling import Throttler
from pllm_notebook.run import confirm
from pllm_notebook.run.jobs.errands import Errands
from pllm_notebook.run.start import office

__all__ = ["Async", "Batch", "Circumstances", "DryRun", "Hybrid", "Strategy", "Sync"]

_UNSENT = frozenset({State.PLANNED, State.UPLOADED, State.CREATING})


@dataclass(frozen=True)
class Circumstances:
    """What the strategies of one session have in common.

    Attributes:
        place: Where answers are.
        courier: Sends.
        throttler: The caller's own pace, None for none.
        confirm: Whether a person is asked before a batch is submitted.
        wait: Whether a batch is waited for, rather than ending the block.
        keep: Whether answers are stored.
    """

    place: Place
    courier: Courier
    throttler: Throttler | None
    confirm: bool
    wait: bool
    keep: bool


class Strategy(ABC):
    """One way of going through a program. Used from the program's threads.

    Args:
        around: What it works with.
    """

    def __init__(self, around: Circumstances) -> None:
        self._around = around
        # Asked since the last point that the program has passed for good.
        self._open: list[Question] = []

    @property
    def gathers(self) -> bool:
        """Whether nothing is sent before a value is needed."""
        return False

    def asked(self, question: Question) -> None:
        """Hear of a call that the program asks; whatever there is of it has been looked at."""
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

    def stop(self) -> None:
        """Send nothing more."""
        self._around.courier.stop()

    def _await_jobs(self, questions: Sequence[Question]) -> None:
        """Go on with what waits in batch jobs: look at these once, and pause where some go on.

        No strategy sends live what somebody has paid for in a batch.
        """
        self._advance([question for question in questions if question.stage == "pending"], submitted=())

    def _advance(self, questions: Sequence[Question], submitted: Sequence[Question]) -> None:
        """Have *questions* answered by batch as far as that goes now, and pause unless all are done.

        Args:
            questions: Not done.
            submitted: Of them, those that wait in no job yet.
        """
        courier = self._around.courier
        before = self._jobs(set(questions) - set(submitted))
        courier.send(questions, "batch")
        if self._around.wait:
            for question in questions:
                courier.wait(question.done)
            return
        courier.wait_until(lambda: self._are_settled(questions))
        if before:
            running, store = courier.engine, self._around.place.store
            Errands(running, store, office(running, store)).fetch(list(before.values()))
            # What a job has brought lands a moment later, and a repair turn goes into a job of its own.
            courier.wait_until(lambda: self._are_settled(questions))
        left = [question for question in questions if not question.done.is_set()]
        if left:
            raise Paused(self._summary(left, [question for question in submitted if not question.done.is_set()]))

    def _are_settled(self, questions: Sequence[Question]) -> bool:
        """Tell whether nothing more becomes of calls for now: each is done, or with its provider in a job."""
        place = self._around.place
        undone = [question for question in questions if not question.done.is_set()]
        jobs = place.jobs([question.key for question in undone])
        for question in undone:
            job = jobs.get(question.key)
            if job is None:
                # A call of its own may be what it waits for by now: a repair turn, or a tool's.
                found = question.look()
                job = found.job if isinstance(found, Pending) else None
            if not question.done.is_set() and (job is None or job.final or job.state in _UNSENT):
                return False
        return True

    def _jobs(self, questions: Iterable[Question]) -> dict[str, Job]:
        found = [self._around.place.retrieve(question.call, question.since) for question in questions]
        return {each.job.id: each.job for each in found if isinstance(each, Pending)}

    def _summary(self, left: Sequence[Question], submitted: Sequence[Question]) -> Summary:
        new, jobs = self._jobs(submitted), self._jobs(left)
        costs = [job.estimate_usd for job in new.values()]
        return Summary(
            self._around.place.directory,
            submitted=len(submitted),
            jobs=len(new),
            cost_usd=None if None in costs else sum(cost for cost in costs if cost is not None),
            awaited=len(left),
            awaited_jobs=len(jobs),
            simulated=any(run.course.simulated for run in self._around.courier.runs),
        )


class Sync(Strategy):
    """One call at a time, each to its end before the program goes on: what a debugger steps through."""

    def asked(self, question: Question) -> None:
        super().asked(question)
        self.need(question)

    def need(self, question: Question) -> None:
        if question.stage == "pending":
            self._await_jobs([question])
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
        self._gathering = Gathering(around.courier, around.throttler, keep=around.keep)

    def asked(self, question: Question) -> None:
        super().asked(question)
        if question.stage == "asked":
            self._gathering.add(question)

    def need(self, question: Question) -> None:
        if question.stage == "pending":
            self._await_jobs([question])
        elif question.stage == "asked":
            self._gathering.hurry()
        self._around.courier.wait(question.done)

    def stop(self) -> None:
        self._gathering.stop()
        super().stop()


class Batch(Strategy):
    """Calls gather until a value is needed that is not there; then all go as batch jobs, and the block ends.

    Past a point where something is awaited the program goes on only when all that was gathered there is done, so
    that every run of the program takes the same way.
    """

    @property
    def gathers(self) -> bool:
        return True

    def need(self, question: Question) -> None:
        if not question.done.is_set() or any(each.stage == "pending" for each in self._open):
            if question not in self._open:
                self._open.append(question)
            self.barrier()

    def barrier(self) -> None:
        questions = self._undone()
        if questions:
            self._submit(questions)
        self._open.clear()

    def _undone(self) -> list[Question]:
        """Give what is not done, as the store, the journal and the failures say now."""
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
            estimate = self._around.courier.estimate(new)
            if estimate is not None:
                confirm(estimate)
        self._advance(questions, new)


class Hybrid(Batch):
    """What is many goes by batch; what the program waits for alone, or with a few others, goes live.

    Args:
        around: What it works with.
        batch_from: As many calls at one point are many.
    """

    def __init__(self, around: Circumstances, batch_from: int) -> None:
        super().__init__(around)
        self._batch_from = batch_from

    def _submit(self, questions: Sequence[Question]) -> None:
        new = [question for question in questions if question.stage == "asked"]
        if len(new) >= self._batch_from:
            super()._submit(questions)
            return
        around = self._around
        if new:
            if around.throttler is not None:
                for at in around.throttler.book(len(new)):
                    around.courier.rest(max(0.0, at - around.throttler.clock()))
            around.courier.send(new, keep=around.keep)
        for question in new:
            around.courier.wait(question.done)
        self._await_jobs(questions)


class DryRun(Batch):
    """Nothing is sent: the block ends at the first value that is not there, with what would have been asked."""

    def finish(self) -> None:
        self.barrier()

    def _submit(self, questions: Sequence[Question]) -> None:
        new = [question for question in questions if question.stage == "asked"]
        estimate = self._around.courier.estimate(questions)
        simulated = estimate is not None and estimate.simulated
        awaited = len(questions) - len(new)
        raise Paused(Summary(self._around.place.directory, awaited=awaited, estimate=estimate, simulated=simulated))
