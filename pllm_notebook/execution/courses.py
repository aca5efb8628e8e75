"""Several courses that are parts of one run: made, begun in turn, and counted together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterator
from functools import partial

from pllm_notebook.engine import Engine
from pllm_notebook.exceptions import MissingKeyError, PllmError, ProviderRejectedError
from pllm_notebook.execution.budget import RunBudget
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.course import Listener
from pllm_notebook.execution.execute import Execution
from pllm_notebook.execution.launch import ServiceFactory
from pllm_notebook.execution.outcomes import Ledger, Outcome
from pllm_notebook.execution.plan import Chunk
from pllm_notebook.execution.row_source import RowSource
from pllm_notebook.execution.stop import State
from pllm_notebook.execution.user_limits import UserRateLimits
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind, Spent

__all__ = ["Courses", "failure_of"]


class Courses:
    """Make courses, begin them in turn, and count what they use together.

    Args:
        engine: Where they run.
        store: None to keep nothing.
        means: What they are given.
        purse: The money that they share.
        ended: Called when one of them has ended.
        serial: Whether one begins only when the one before it has ended.

    Attributes:
        purse: As given.
        serial: As given.
        going: Courses that have begun and not ended.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store | None,
        services: ServiceFactory,
        run_budget: RunBudget,
        ended: Callable[[], None],
        *,
        serial: bool,
    ) -> None:
        self.serial = serial
        self.going = 0
        self._engine = engine
        self._store = store
        self._services = services
        self.run_budget = run_budget
        self._ended = ended
        self._ceilings = UserRateLimits()
        self._listeners: dict[Execution, Listener] = {}  # in the order they were made
        self._refused: set[Execution] = set()
        self._waiting: deque[Callable[[], None]] = deque()

    def __iter__(self) -> Iterator[Execution]:
        # A copy: one that ends may bring about another.
        return iter(list(self._listeners))

    def __repr__(self) -> str:
        return f"Courses(made={len(self._listeners)}, going={self.going}, waiting={len(self._waiting)})"

    @property
    def waiting(self) -> int:
        """Courses that are to begin and have not."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Calls on the wire."""
        return sum(course.in_flight for course in self)

    @property
    def submitted(self) -> bool:
        """Whether everything that they ask now is on its way."""
        return not self._waiting and all(course.submitted for course in self)

    @property
    def unsaved(self) -> int:
        """Paid answers that the cache could not keep."""
        return sum(course.unsaved for course in self)

    @property
    def spent(self) -> Spent:
        """What their calls have used and cost."""
        return sum((course.spent for course in self), Spent())

    @property
    def short(self) -> bool:
        """Whether one of them failed and is not done without, as one does that is out of money."""
        return any(course.state == "failed" and course not in self._refused for course in self)

    def make(self, ask: CallSpec, rows: RowSource, listener: Listener) -> Execution:
        """Make one more; it has not begun."""
        course = Execution(
            ask,
            rows,
            self._services.services(self._store, budget=self.run_budget, ceilings=self._ceilings),
            self._one_ended,
            listener,
        )
        self._listeners[course] = listener
        return course

    def line_up(self, begin: Callable[[], None]) -> None:
        """Call *begin* when its turn has come."""
        self._waiting.append(begin)

    def line_up_again(
        self, course: Execution, kinds: set[FailureKind] | None, among: Container[int] | None = None
    ) -> None:
        """Queue *course* to send again (see `Execution.again`); it is counted as at first."""
        self._refused.discard(course)
        self.line_up(partial(course.again, kinds, among))

    def begin_next(self) -> None:
        """Begin whose turn has come: all of them, or one where they go one after the other."""
        while self._waiting and not (self.serial and self.going):
            self.going += 1
            self._waiting.popleft()()

    def begin(self, course: Execution) -> None:
        """Begin *course* at once."""
        self.going += 1
        course.begin()

    def stop(self, state: State) -> None:
        """Begin no more, and stop those that are going."""
        self._waiting.clear()
        for course in self:
            course.stop(state, None)

    def release(self) -> None:
        """Let go of their parts and of those who hear of them (see `Endable.release`)."""
        self._ended = _nothing
        for course in self:
            course.release()
        self._listeners = dict.fromkeys(self._listeners, _DEAF)

    def look(self) -> None:
        """Bring their notes up to date. For the display's clock."""
        for course in self:
            if course.state == "running":
                course.look()

    def troubled(self) -> Iterator[tuple[Execution, BaseException]]:
        """Return those that an error has ended, and that are not done without yet."""
        for course in self:
            if course.state == "failed" and course.error is not None and course not in self._refused:
                yield course, course.error

    def do_without(self, course: Execution, error: PllmError) -> None:
        """Let what *course* has not ended fail with what ended it; its listener hears of each call."""
        self._refused.add(course)
        failure = failure_of(error)
        for call, outcome in enumerate(course.ledger.outcomes):
            if outcome is None:
                course.ledger.outcomes[call] = missed = Outcome(None, failure, course.ledger.keys[call], (), False)
                self._listeners[course].recorded(call, missed)

    def _one_ended(self) -> None:
        self.going -= 1
        self._ended()


class _Deaf:
    """Hears nothing (see `Listener`)."""

    def planned(self, ledger: Ledger, chunk: Chunk) -> None:
        """Nothing is planned any more."""

    def recorded(self, call: int, outcome: Outcome) -> None:
        """Nothing is recorded any more."""


_DEAF = _Deaf()


def _nothing() -> None:
    """Do nothing: nobody waits for the end any more."""


def failure_of(error: PllmError) -> Failure:
    """Say of a call that was never sent why its model cannot be asked."""
    if isinstance(error, ProviderRejectedError):
        return Failure(FailureKind(error.kind), str(error), error.status)
    kind = FailureKind.AUTHENTICATION if isinstance(error, MissingKeyError) else FailureKind.INPUT
    return Failure(kind, str(error))
