"""The reason why a run stops: its final state, and the error for its caller."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from pllm_notebook.exceptions import MissingKeyError, PllmError, ProviderRejectedError, RowError
from pllm_notebook.failures import Failure, FailureKind, ways_to_send_again

__all__ = ["Halt", "Reason", "State", "failure_of", "row_error"]

State = Literal["running", "done", "cancelled", "failed"]

# An error that says how many rows are answered is built at the end, since replies may arrive until then.
Reason = BaseException | Callable[..., PllmError] | None


class Halt(NamedTuple):
    """Why nothing more is sent.

    Attributes:
        state: The state that the run ends in.
        reason: The error for the caller, or a function that builds it from `kept` and `total`; None for none.
    """

    state: State
    reason: Reason

    def error(self, *, kept: int, total: int) -> BaseException | None:
        """Return the error for the caller, which may say how many of the rows are answered."""
        reason = self.reason
        return reason if reason is None or isinstance(reason, BaseException) else reason(kept=kept, total=total)


def row_error(row: int, failure: Failure) -> Reason:
    """Return the error of a run that ends at its first failed row."""
    # The caller has no run to retry: the call raised.
    said = failure.message.replace(ways_to_send_again(str(failure.kind)), "cache='refresh'")
    message = f"Row {row:,} failed ({failure.kind}): {said}"
    return partial(RowError, message, position=row, kind=failure.kind)


def failure_of(error: PllmError) -> Failure:
    """Return the failure of a call that was never sent because its model cannot be called."""
    if isinstance(error, ProviderRejectedError):
        return Failure(FailureKind(error.kind), str(error), error.status)
    kind = FailureKind.AUTHENTICATION if isinstance(error, MissingKeyError) else FailureKind.INPUT
    return Failure(kind, str(error))
