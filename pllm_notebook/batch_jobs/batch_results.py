"""Convert a job's results to replies, failures and store entries."""

from __future__ import annotations

from collections.abc import Sequence

from pllm_notebook.batch import JobResult, LineOutcome
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.prices import Rate, rate_of
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish, RawReply, Reply

__all__ = ["batch_rate", "decode_reply", "line_failure", "line_outcome", "read_results"]

# The failure kind for each of the journal's words for a line without an answer.
_KINDS = {"rejected": FailureKind.BAD_REQUEST, "missing": FailureKind.MISSING, "abandoned": FailureKind.MISSING}
_MESSAGES = {
    FailureKind.EXPIRED: "The batch job expired before this request was answered.",
    FailureKind.MISSING: "The batch job's results have no line for this request.",
    FailureKind.CANCELLED: "The batch job was cancelled before this request was answered.",
}


def batch_rate(target: ResolvedModel) -> Rate | None:
    """Return a model's batch price, None if unknown."""
    if target.price_provider is None:
        return None
    return rate_of(target.price_provider, target.price_model, batch=True)


def read_results(
    target: ResolvedModel, arrivals: Sequence[JobResult]
) -> list[tuple[Reply | Failure, RawReply | None, StoredReply | None]]:
    """Read results, in order. A failure has no entry to store, and an unprocessed line has no body."""
    rate = batch_rate(target)
    made: list[tuple[Reply | Failure, RawReply | None, StoredReply | None]] = []
    for arrival in arrivals:
        raw = arrival.result.raw
        result = line_failure(arrival.result.failure, "") if raw is None else target.read(raw)
        entry = None
        if isinstance(result, Reply):
            assert raw is not None
            cost = None if rate is None or result.usage is None else rate.cost_usd(result.usage)
            try:
                entry = StoredReply.of(
                    result,
                    raw.body,
                    asked=target.label,
                    output_limit=arrival.line.output_limit,
                    cost_usd=cost,
                    latency_s=0.0,
                    attempts=1,
                    host=target.host,
                )
            except Exception as error:  # its metadata cannot be encoded: only this line fails
                message = f"The reply could not be taken in: {type(error).__name__}: {error}"[:500]
                result = Failure(
                    FailureKind.MALFORMED, message, 200, result.text[:2000], 1, cost_usd=None, usage=result.usage
                )
        made.append((result, raw, entry))
    return made


def line_outcome(result: Reply | Failure, entry: StoredReply | None, rate: Rate | None) -> LineOutcome:
    """Build what the journal records of a line.

    Args:
        result: The line's reply or failure.
        entry: The stored reply, None for a failure.
        rate: The model's batch price, None if unknown.

    Returns:
        The outcome. A failure that was possibly paid for costs what its reported usage costs, or an unknown amount.
    """
    if not isinstance(result, Failure):
        return LineOutcome("", None if entry is None else entry.metadata["cost_usd"])
    cost = result.cost_usd
    if cost is None and result.usage is not None and rate is not None:
        cost = rate.cost_usd(result.usage)
    return LineOutcome(str(result.kind), cost)


def line_failure(word: str, message: str) -> Failure:
    """Build the failure of a line.

    Args:
        word: The journal's or the provider's word for the failure.
        message: A description, "" if there is none.
    """
    kind = _KINDS.get(word)
    if kind is None:
        kind = FailureKind(word) if word in set(FailureKind) else FailureKind.SERVER
    return Failure(kind, message or _MESSAGES.get(kind, f"The provider answered: {word}."), attempts=1)


def decode_reply(entry: StoredReply) -> Reply:
    """Convert a stored entry to a reply."""
    metadata = entry.metadata
    return Reply(
        entry.text.decode("utf-8", "surrogatepass"),
        Finish(entry.finish),
        entry.usage,
        metadata["model"],
        metadata["request_id"],
        metadata["detail"],
        entry.calls,
    )
