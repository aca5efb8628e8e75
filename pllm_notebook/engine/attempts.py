"""The result of one request."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.redaction import redact
from pllm_notebook.types import LimitReport, RawReply, Reply

__all__ = ["AttemptResult", "error_text", "timed_out", "unexpected_error"]

logger = logging.getLogger("pllm_notebook")

_MAX_CHARS = 500


@dataclass(slots=True)
class AttemptResult:
    """The result of one request: the reply or failure, the raw response and its rate-limit report."""

    result: Reply | Failure
    raw: RawReply | None
    limits: LimitReport | None


def timed_out(timeout_s: float) -> AttemptResult:
    """Build the result of a request that returned no complete reply in time."""
    message = f"No whole reply within timeout_s={timeout_s:g} s."
    return AttemptResult(Failure(FailureKind.TIMEOUT, message), None, None)


def unexpected_error(name: str, error: Exception, content: bytes, raw: RawReply | None) -> AttemptResult:
    """Build the result of a request that ended with an unexpected exception.

    If the request was sent, the provider may have charged for it. The failure kind reflects that.

    Args:
        name: The dispatcher's name, for the log.
        error: The exception.
        content: The request's bytes. b"" if they could not be built and nothing was sent.
        raw: The response, None if none arrived.
    """
    message = error_text(error)
    if not content:
        logger.error("%s: a request could not be built", name, exc_info=error)
        return AttemptResult(Failure(FailureKind.INPUT, message), None, None)
    logger.error("%s: the result of a request could not be read", name, exc_info=error)
    if raw is None:
        return AttemptResult(Failure(FailureKind.CONNECTION, message), None, None)
    # Truncate after redaction: half a key would not be recognised as a key.
    excerpt = redact(raw.body[: 8 * _MAX_CHARS].decode("utf-8", "replace"))[:_MAX_CHARS]
    return AttemptResult(Failure(FailureKind.MALFORMED, message, raw.status, excerpt), raw, None)


def error_text(error: Exception) -> str:
    """Format an exception as readable text, truncated to a few hundred characters and with secrets redacted."""
    return redact(f"{type(error).__name__}: {error}"[:_MAX_CHARS])
