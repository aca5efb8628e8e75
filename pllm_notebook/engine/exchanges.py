"""What became of a request where no reply was read: too late, or an exception that nobody expected."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pllm_notebook.engine.feed import Exchange, Landing
from pllm_notebook.engine.flight import Flight, cancelled
from pllm_notebook.engine.limiter import Limiter, Stamp
from pllm_notebook.records import Failure, FailureKind, LimitReport, RawReply, Reply
from pllm_notebook.redaction import redact

__all__ = ["limits_in", "strand", "surprised", "teach", "too_late"]

logger = logging.getLogger("pllm_notebook")

_KEPT = 500


def too_late(flight: Flight) -> Exchange:
    """Build the exchange of a request that brought no whole reply in time."""
    message = f"No whole reply within timeout_s={flight.timeout_s:g} s."
    return Exchange(Failure(FailureKind.TIMEOUT, message), None, None)


def surprised(name: str, error: Exception, content: bytes, raw: RawReply | None) -> Exchange:
    """Build the exchange of a request that ended with an exception that nobody expected.

    Once it has left, the provider may have charged for it: its kind is one that says so.

    Args:
        name: Of the lane, for the log.
        error: As it was raised.
        content: The request's bytes, b"" where they could not be made and nothing was sent.
        raw: The response, None where there was none.
    """
    told = redact(f"{type(error).__name__}: {error}"[:_KEPT])
    if not content:
        logger.error("%s: a request could not be made", name, exc_info=error)
        return Exchange(Failure(FailureKind.INPUT, told), None, None)
    logger.error("%s: the end of a request could not be read", name, exc_info=error)
    if raw is None:
        return Exchange(Failure(FailureKind.CONNECTION, told), None, None)
    # Cut only afterwards: half a key would not be known for one.
    kept = redact(raw.body[: 8 * _KEPT].decode("utf-8", "replace"))[:_KEPT]
    return Exchange(Failure(FailureKind.MALFORMED, told, raw.status, kept), raw, None)


def limits_in(name: str, read: Callable[[RawReply], LimitReport | None], raw: RawReply) -> LimitReport | None:
    """Read a response's limits; headers of a shape that nobody thought of say nothing."""
    try:
        return read(raw)
    except Exception:
        logger.debug("%s: the limits of a response could not be read", name, exc_info=True)
        return None


def teach(name: str, limiter: Limiter, exchange: Exchange, stamp: Stamp, now: float) -> None:
    """Let a lane's limiter learn from the end of a request."""
    result, paused_until = exchange.result, limiter.paused_until
    if isinstance(result, Reply):
        tokens = None if result.usage is None else result.usage.input_tokens + result.usage.output_tokens
        limiter.replied(now, stamp, exchange.limits, tokens)
        return
    if result.kind is FailureKind.RATE_LIMIT:
        limiter.refused_at(now, stamp, exchange.limits, result.retry_after_s)
    elif result.kind is FailureKind.OVERLOADED:
        limiter.overloaded(now, stamp, result.retry_after_s)
    elif result.kind is FailureKind.TIMEOUT:
        limiter.timed_out(now, stamp)
    else:
        limiter.ended(stamp)
    if limiter.paused_until > max(now, paused_until):
        logger.info("%s: pausing %.2f s (%s)", name, limiter.paused_until - now, result.kind)


def strand(name: str, flight: Flight, error: Exception) -> None:
    """End the calls that still wait for a flight that failed on its landing: each may have been paid for."""
    told = redact(f"{type(error).__name__}: {error}"[:_KEPT])
    ended = []
    while flight.passengers:
        _, job = flight.passengers.pop()
        job.sent += 1
        job.maybe_paid += flight.departed
        failed = Failure(FailureKind.MALFORMED, told)
        ended.append((job, Landing(failed, None, job.sent, 0.0, job.maybe_paid)))
    for job, landing in [*ended, *((job, cancelled(job, 0.0)) for job in flight.left)]:
        try:
            job.done(job, landing)
        except Exception:
            logger.exception("%s: a call could not be told that it has ended", name)
