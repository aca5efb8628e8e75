"""What the courses have in common that are made of other courses: an ensemble's, and a list's of mixed prompts."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence

from pllm_notebook.engine import Engine
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.budget import RunBudget
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.courses import Courses
from pllm_notebook.execution.ending import Endable, tell_of_fault
from pllm_notebook.execution.execute import Execution
from pllm_notebook.execution.launch import ServiceFactory
from pllm_notebook.execution.progress import RunProgress
from pllm_notebook.execution.stop import Reason, State
from pllm_notebook.protocols import Store
from pllm_notebook.records import FailureKind, Spent

__all__ = ["ComposedCourse"]

logger = logging.getLogger("pllm_notebook")


class ComposedCourse(Endable):
    """Conduct other courses as one (see `Course`, as for what has no words of its own here).

    Args:
        asks: The questions; all have the options of one run.
        total: Rows.
        engine: Where it runs.
        store: None to keep nothing.
        ended: Called when the run has ended, however it did.
        means: What its courses are given.
        purse: Money that it shares with other runs; None for one of its own, from the options.

    Attributes:
        ledger: The outcomes; set by whoever composes.
        total: As given.
        broken: Whether a fault of ours ended it.
    """

    def __init__(
        self,
        asks: Sequence[CallSpec],
        total: int,
        engine: Engine,
        store: Store | None,
        ended: Callable[[], None],
        services: ServiceFactory,
        run_budget: RunBudget | None = None,
    ) -> None:
        options = asks[0].options
        super().__init__(raises=options.mode == "sync" or options.errors == "raise")
        self.total = total
        self.model = ", ".join(dict.fromkeys(ask.target.label for ask in asks))
        self.simulated = any(ask.target.simulated for ask in asks)
        self._ended = ended
        self._courses = Courses(
            engine,
            store,
            services,
            run_budget or RunBudget(options.max_cost_usd),
            self._course_ended,
            serial=options.mode == "sync",
        )

    # What displays and callers read.

    @property
    def throughput(self) -> RunProgress:
        """Counts of rows."""
        return self.ledger.progress

    @property
    def in_flight(self) -> int:
        """Calls on the wire."""
        return self._courses.in_flight

    @property
    def submitted(self) -> bool:
        """Whether everything that it asks now is on its way."""
        return self.state != "running" or self._courses.submitted

    @property
    def kept(self) -> int:
        """Rows that have an answer."""
        return self.throughput.done + self.throughput.cached

    @property
    def unsaved(self) -> int:
        """Paid answers that the cache could not keep."""
        return self._courses.unsaved

    @property
    def spent(self) -> Spent:
        """What calls of this run have used and cost."""
        return self._courses.spent

    @property
    def reserved_usd(self) -> float:
        """US dollars put by for requests that are out, under a ceiling."""
        return self._courses.run_budget.reserved_usd

    @property
    def note(self) -> str:
        """One line of news, "" for none."""
        return "; ".join(dict.fromkeys(course.note for course in self._courses if course.note))

    @property
    def warnings(self) -> Sequence[str]:
        """What a person should hear of at the end, besides rows that failed or were not saved."""
        return list(dict.fromkeys(line for course in self._courses for line in course.warnings))

    def look(self) -> None:
        """Bring the courses' notes up to date. For the display's clock."""
        self._courses.look()

    # Its life.

    @abstractmethod
    def begin(self) -> None:
        """Line up the courses and begin them."""

    @abstractmethod
    def again(self, kinds: set[FailureKind] | None) -> None:
        """Ask once more for what has no answer (see `Run.retry`)."""

    @abstractmethod
    def ask_of(self, row: int) -> CallSpec:
        """Return the question that a row was asked."""

    @abstractmethod
    def _tolerates(self, course: Execution, error: PllmError) -> bool:
        """Return whether the others go on where a key or a model is refused."""

    def _go_on(self) -> None:
        """Do what can be done now that a course has ended, and end if that was all."""
        self._finish_if_over()

    def _busy(self) -> bool:
        """Return whether something is at work besides the courses."""
        return False

    def _more(self) -> bool:
        """Return whether further courses are to come."""
        return False

    def stop(self, state: State, error: Reason) -> None:
        """Admit nothing more and cancel what is on the wire, once; the first reason stands."""
        if self._ending.stop(state, error):
            self._courses.stop(state)
            self._finish_if_over()

    def release(self) -> None:
        """Let go of the courses' parts (see `Endable.release`)."""
        if not self.broken and self.state != "running":
            self._ended = _nothing
            self._courses.release()

    def fail(self, error: Exception) -> None:
        """End at once by a fault of ours (see `Execution.fail`)."""
        tell_of_fault(error)
        if self.state != "running":
            return
        self.broken = True
        if not self._ending.stop("failed", error):
            self._ending.blame(error)
        self._courses.stop("failed")
        self._finish()

    def _begin_next(self) -> None:
        self._courses.begin_next()
        self._finish_if_over()

    def _course_ended(self) -> None:
        for course, error in self._courses.troubled():
            if isinstance(error, PllmError) and not course.broken and self._tolerates(course, error):
                self._courses.do_without(course, error)
            else:
                # A key or a model that is refused, or a fault of ours: every row would meet it.
                self.stop("failed", error)
        self._begin_next()
        self._go_on()

    def _finish_if_over(self) -> None:
        if self.state != "running" or self._courses.going or self._busy():
            return
        if self._ending.stopping is None and (self._courses.waiting or self._more()):
            return
        self._finish()

    def _finish(self) -> None:
        if self.state != "running":
            return
        # Being out of money is no error, but a run that ended so is not done either.
        self._ending.end("failed" if self._courses.short else "done", kept=self.kept, total=self.total)
        self.throughput.finish(time.monotonic())
        self._ended()


def _nothing() -> None:
    """Do nothing: nobody waits for the end any more."""
