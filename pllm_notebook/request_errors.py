"""Errors of one request through `ParallelLLM` (the tree is in `exceptions`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pllm_notebook.exceptions import PllmError, UsageError

__all__ = [
    "APIError",
    "AuthenticationError",
    "ConfigurationError",
    "DecisionMakerError",
    "FailedProcessor",
    "LLMTimeoutError",
    "LLMValidationError",
    "ModelError",
    "ParallelLLMError",
    "ProcessingError",
    "RateLimitError",
]


class ParallelLLMError(PllmError):
    """A request through `ParallelLLM` has no answer. The message begins with the `error_code` in brackets.

    Attributes:
        message: A readable description.
        error_code: The error class as one word for code to branch on, such as "RATE_LIMIT_ERROR".
        kind: The failure kind (see docs/errors.md), finer than the code. "usage" for an invalid request, "processing"
            for several kinds together.
    """

    code = "ERROR"

    def __init__(self, message: str = "", error_code: str | None = None, *, kind: str = "processing") -> None:
        self.message = message
        self.error_code = error_code or self.code
        self.kind = kind
        super().__init__(message)

    def __str__(self) -> str:
        return f"[{self.error_code}] {self.message}"


class ConfigurationError(ParallelLLMError, UsageError):
    """Unknown setting, or a value out of range. Nothing was sent."""

    code = "CONFIG_ERROR"

    def __init__(self, message: str = "", *, kind: str = "configuration") -> None:
        super().__init__(message, kind=kind)


class DecisionMakerError(ParallelLLMError, UsageError):
    """The decision maker cannot be asked as configured. Nothing was sent.

    A decision maker whose call fails raises nothing: the majority's answer is returned, with a warning.

    Attributes:
        fallback_used: False: there is no answer.
    """

    code = "DECISION_MAKER_ERROR"

    def __init__(self, message: str = "", fallback_used: bool = False, *, kind: str = "decision_maker") -> None:
        self.fallback_used = fallback_used
        super().__init__(message, kind=kind)


class LLMValidationError(ParallelLLMError):
    """A reply that does not fit the requested format. It may have been paid for.

    Also raised for an invalid request; it is then a `UsageError` too, and nothing was sent.

    Attributes:
        invalid_field: The invalid field. None if no single field is responsible.
    """

    code = "VALIDATION_ERROR"

    def __init__(self, message: str = "", invalid_field: str | None = None, *, kind: str = "schema") -> None:
        self.invalid_field = invalid_field
        super().__init__(message, kind=kind)


class APIError(ParallelLLMError):
    """The provider did not answer.

    Attributes:
        status_code: The HTTP status. None without a response.
        retry_after: Seconds that the provider asked to wait. None if it did not.
    """

    code = "API_ERROR"

    def __init__(
        self,
        message: str = "",
        status_code: int | None = None,
        retry_after: float | None = None,
        *,
        kind: str = "server_error",
    ) -> None:
        self.status_code = status_code
        self.retry_after = retry_after
        super().__init__(message, kind=kind)


class LLMTimeoutError(APIError, TimeoutError):
    """No reply within the timeout. It may have been paid for. Caught by the built-in `TimeoutError` too."""

    code = "TIMEOUT_ERROR"


class RateLimitError(APIError):
    """Too many requests, or a quota that is used up."""

    code = "RATE_LIMIT_ERROR"


class AuthenticationError(APIError):
    """The key is missing, or the provider refuses it or denies access."""

    code = "AUTH_ERROR"


class ModelError(APIError):
    """The provider has no such model."""

    code = "MODEL_ERROR"


@dataclass(frozen=True, slots=True)
class FailedProcessor:
    """A processor of a `ParallelLLM` request without an answer.

    Attributes:
        model: The model's name as the user writes it.
        kind: The failure's kind (see `failures.FailureKind`).
        message: One readable line.
        cause: The failure as an exception.
    """

    model: str
    kind: str
    message: str
    cause: ParallelLLMError


class ProcessingError(ParallelLLMError):
    """Every processor of a request failed, or the request ended without an answer.

    `kind` is the common kind of all processors ("authentication", "timeout", …), or "processing" if they differ. The
    first processor's error is also `__cause__`.

    Attributes:
        failed_processors: Number of failed processors. 0 if the request ended for another reason.
        causes: The failed processors, in order.
    """

    code = "PROCESSING_ERROR"

    def __init__(
        self,
        message: str = "",
        failed_processors: int | None = None,
        *,
        causes: Sequence[FailedProcessor] = (),
        kind: str = "processing",
    ) -> None:
        self.causes = list(causes)
        self.failed_processors = len(self.causes) if failed_processors is None else failed_processors
        super().__init__(message, kind=kind)

    @classmethod
    def of(cls, causes: Sequence[FailedProcessor]) -> ProcessingError:
        """Build the error from the processors that failed."""
        kinds = {failed.kind for failed in causes}
        lines = dict.fromkeys(f"{failed.model} ({failed.kind}): {failed.message}" for failed in causes)
        said = "The processor failed" if len(causes) == 1 else f"All {len(causes)} processors failed"
        kind = kinds.pop() if len(kinds) == 1 else "processing"
        return cls(f"{said}. " + " | ".join(lines), causes=causes, kind=kind)
