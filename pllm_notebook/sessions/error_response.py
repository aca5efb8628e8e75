"""The failure of a call, as a value and as an exception."""

from __future__ import annotations

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import full_message
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.sessions.call import Call

__all__ = ["STORED_KINDS", "ErrorResponse"]

# A rejected key or an unknown model is a failure of the account, not of the call: the next run of the program sends
# the call again.
STORED_KINDS = frozenset(kind for kind in FailureKind if kind.facts.logged and not kind.fatal)
"""Kinds of failures that are stored, and not retried until `retry_failed`."""


class ErrorResponse(PllmError):
    """The failure of a call: `resolve` raises it, and `resolve_all` returns it with `errors="coerce"`.

    Attributes:
        call: The call.
        failure: The reason why there is no answer.
    """

    def __init__(self, call: Call, failure: Failure) -> None:
        self.call = call
        self.failure = failure
        who = f"{call.agent}, call {call.number}" if call.agent else "A call"
        tag = f" ({call.tag})" if call.tag else ""
        again = " It is stored, and not retried until session.retry_failed()." if failure.kind in STORED_KINDS else ""
        message = full_message(failure).rstrip()
        stop = "" if message.endswith((".", "!", "?", ")")) else "."
        super().__init__(f"{who}{tag}, {failure.kind}: {message}{stop}{again}")

    def __reduce__(self) -> tuple[type[ErrorResponse], tuple[Call, Failure]]:
        return ErrorResponse, (self.call, self.failure)

    @property
    def kind(self) -> FailureKind:
        """The kind of failure, for code to branch on."""
        return self.failure.kind
