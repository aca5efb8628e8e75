"""How a course ends: by itself, or for the first reason that stops it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.outcomes import Ledger
from pllm_notebook.execution.stop import Reason, State, row_error
from pllm_notebook.records import Failure, FailureKind

__all__ = ["Endable", "Ending", "tell_of_fault"]

logger = logging.getLogger("pllm_notebook")


class Ending:
    """Whether a course goes on, is being stopped, or has ended, and why. Changed on the engine's loop alone.

    Attributes:
        state: "running" until it has ended.
        error: What ended it, for the caller to raise; None for nothing.
        stopping: The state that it will end in, once what is still out has landed; None while nothing stops it.
    """

    def __init__(self) -> None:
        self.state: State = "running"
        self.error: BaseException | None = None
        self.stopping: State | None = None
        self._reason: Reason = None

    def __repr__(self) -> str:
        return f"Ending(state={self.state!r}, stopping={self.stopping!r}, error={self.error!r})"

    def stop(self, state: State, reason: Reason) -> bool:
        """Begin to end; False where something has stopped it before, since the first reason stands."""
        if self.stopping is not None or self.state != "running":
            return False
        self.stopping, self._reason = state, reason
        return True

    def blame(self, error: BaseException) -> None:
        """Return *error* as the reason where something stops it without one, as a person does."""
        if self._reason is None:
            self._reason = error

    def end(self, otherwise: State, *, kept: int, total: int) -> None:
        """End.

        Args:
            otherwise: The state it ends in where nothing has stopped it.
            kept: Rows that have an answer, for the error.
            total: Rows.
        """
        reason = self._reason
        if reason is not None and not isinstance(reason, BaseException):
            reason = reason(kept=kept, total=total)
        # The error first: another thread that sees the end may raise it at once.
        self.error = reason
        self.state = self.stopping or otherwise

    def resume(self) -> None:
        """Go on as if it had never ended."""
        self.stopping, self._reason, self.error, self.state = None, None, None, "running"


def tell_of_fault(error: Exception) -> None:
    """Log what ends a run besides its caller and its provider; an error of our own tells its caller all there is."""
    if isinstance(error, PllmError):
        logger.info("The run is ended: %s", error)
    else:
        logger.error("The run is ended by a fault of this package", exc_info=error)


class Endable(ABC):
    """What every course has that is about its end. Used on the engine's loop; what is read, from any thread.

    Args:
        raises: Whether a row that fails ends it.

    Attributes:
        ledger: The outcomes; set by whoever inherits.
        broken: Whether a fault of ours ended it: what is still on its way can then not be counted on.
    """

    ledger: Ledger

    def __init__(self, *, raises: bool) -> None:
        self.broken = False
        self._raises = raises
        self._ending = Ending()

    @property
    def state(self) -> State:
        """Running until it has ended."""
        return self._ending.state

    @property
    def error(self) -> BaseException | None:
        """What ended it, for the caller to raise; None for nothing."""
        return self._ending.error

    def retryable(self, kinds: set[FailureKind] | None) -> list[int]:
        """Return the calls that `again` would take up: never ended, or failed in a way that can pass."""
        return self.ledger.retryable(kinds)

    @abstractmethod
    def stop(self, state: State, error: Reason) -> None:
        """Admit nothing more and cancel what is on the wire, once; the first reason stands."""

    def _raise_at(self, row: int, failure: Failure) -> None:
        """End the run at a failed row, where the caller asked for that."""
        if self._raises:
            self.stop("failed", row_error(row, failure))
