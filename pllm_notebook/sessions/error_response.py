"""A call of a program that has no answer, as a value and as an error."""

from __future__ import annotations

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.failure_recorder import full_message
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.sessions.call import Call

__all__ = ["STORED_KINDS", "ErrorResponse"]

# A refused key, or a model that does not exist, is the account's failure and not the call's: the program sends the call
# when it is run again.
STORED_KINDS = frozenset(kind for kind in FailureKind if kind.facts.logged and not kind.fatal)
"""Kinds of failure that are stored, and not sent again until `retry_failed`."""


class ErrorResponse(PllmError):
    """Stands where an answer would: what `resolve` raises, and what `resolve_all` gives with `errors="coerce"`.

    Attributes:
        call: What was asked.
        failure: Why there is no answer.
    """

    def __init__(self, call: Call, failure: Failure) -> None:
        self.call = call
        self.failure = failure
        who = f"{call.agent}, call {call.number}" if call.agent else "A call"
        tag = f" ({call.tag})" if call.tag else ""
        again = " It is kept, and not asked again until session.retry_failed()." if failure.kind in STORED_KINDS else ""
        message = full_message(failure).rstrip()
        stop = "" if message.endswith((".", "!", "?", ")")) else "."
        super().__init__(f"{who}{tag}, {failure.kind}: {message}{stop}{again}")

    def __reduce__(self) -> tuple[type[ErrorResponse], tuple[Call, Failure]]:
        return ErrorResponse, (self.call, self.failure)

    @property
    def kind(self) -> FailureKind:
        """Why, in one word that code may branch on."""
        return self.failure.kind
