"""Errors of `ParallelLLM` requests: each is a `ParallelLLMError` and also keeps its original class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pllm_notebook.exceptions import (
    PllmError,
    UsageError,
)
from pllm_notebook.request_errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    LLMTimeoutError,
    LLMValidationError,
    ModelError,
    ParallelLLMError,
    ProcessingError,
    RateLimitError,
)

__all__ = ["as_request_errors", "get_error_info", "handle_openai_error", "is_retryable_error"]

_DETAILS = (
    "failed_processors",
    "fallback_used",
    "invalid_field",
    "status_code",
    "retry_after",
    "timeout_duration",
    "model_name",
)


@contextmanager
def as_request_errors() -> Iterator[None]:
    """Raise this package's errors as `ParallelLLMError`s of a combined class, so that either class catches them."""
    try:
        yield
    except ParallelLLMError:
        raise
    except PllmError as error:
        raise _combined(error).with_traceback(error.__traceback__) from error.__cause__


def handle_openai_error(error: BaseException) -> ParallelLLMError:
    """Convert an exception of OpenAI's client to one of this package."""
    import openai

    message, status = str(error), getattr(error, "status_code", None)
    kinds: tuple[tuple[type[BaseException], type[APIError], str], ...] = (
        (openai.AuthenticationError, AuthenticationError, "authentication"),
        (openai.PermissionDeniedError, AuthenticationError, "permission"),
        (openai.RateLimitError, RateLimitError, "rate_limit"),
        (openai.NotFoundError, ModelError, "unknown_model"),
        (openai.APITimeoutError, LLMTimeoutError, "timeout"),
        (openai.APIConnectionError, APIError, "connection"),
        (openai.APIError, APIError, "server_error"),
    )
    for foreign, ours, kind in kinds:
        if isinstance(error, foreign):
            return ours(message, status, kind=kind)
    return ProcessingError(f"OpenAI API error: {message}")


def get_error_info(error: ParallelLLMError) -> dict[str, Any]:
    """Return an error's details as plain values.

    Returns:
        error_type, error_code, kind, message and full_message, and those of failed_processors, fallback_used,
        invalid_field, status_code and retry_after that the error has.
    """
    info: dict[str, Any] = {
        "error_type": type(error).__name__,
        "error_code": error.error_code,
        "kind": error.kind,
        "message": error.message,
        "full_message": str(error),
    }
    return info | {name: getattr(error, name) for name in _DETAILS if hasattr(error, name)}


def is_retryable_error(error: BaseException) -> bool:
    """Return whether the same request may succeed later: not after a refused key, unknown model or bad request."""
    return not isinstance(error, (AuthenticationError, ModelError, LLMValidationError, ConfigurationError, UsageError))


@cache
def _combined_class(kind: Any) -> Any:
    """Return the subclass of *kind* and `ParallelLLMError`, the same one each time."""
    base = LLMValidationError if issubclass(kind, UsageError) else ProcessingError
    return type(kind.__name__, (base, kind), {"__doc__": kind.__doc__, "__module__": kind.__module__})


def _combined(error: PllmError) -> ParallelLLMError:
    of: Any = type(error)
    kind = _combined_class(of)
    # The constructors are bypassed: each takes different arguments, from which it builds the message.
    made: Any = kind.__new__(kind, *error.args)
    usage = isinstance(error, UsageError)
    own: dict[str, Any] = {"invalid_field": None} if usage else {"causes": [], "failed_processors": 0}
    own |= {"message": str(error), "error_code": kind.code}
    made.__dict__.update(error.__dict__ | own)
    made.kind = "usage" if usage else str(getattr(error, "kind", "processing"))
    both: ParallelLLMError = made
    return both
