"""From what a job brought to replies, failures and what is stored."""

from __future__ import annotations

from collections.abc import Sequence

from pllm_notebook.batch import Arrival
from pllm_notebook.entry import Entry
from pllm_notebook.prices import Rate, rate_of
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.records import Failure, FailureKind, Finish, RawReply, Reply

__all__ = ["batch_rate", "failure_of", "read_arrivals", "reply_of"]

# What the journal calls a line that has no answer, as a kind of failure.
_KINDS = {"rejected": FailureKind.BAD_REQUEST, "missing": FailureKind.MISSING, "abandoned": FailureKind.MISSING}
_TOLD = {
    FailureKind.EXPIRED: "The batch job expired before this request was answered.",
    FailureKind.MISSING: "The batch job's results have no line for this request.",
    FailureKind.CANCELLED: "The batch job was cancelled before this request was answered.",
}


def batch_rate(target: ResolvedModel) -> Rate | None:
    """Return a model's price in a batch, None for unknown."""
    if target.price_provider is None:
        return None
    return rate_of(target.price_provider, target.price_model, batch=True)


def read_arrivals(
    target: ResolvedModel, arrivals: Sequence[Arrival]
) -> list[tuple[Reply | Failure, RawReply | None, Entry | None]]:
    """Read results, in order; a failure has no entry to store, and a line that the provider never came to no body."""
    rate = batch_rate(target)
    made: list[tuple[Reply | Failure, RawReply | None, Entry | None]] = []
    for arrival in arrivals:
        raw = arrival.result.raw
        result = failure_of(arrival.result.failure, "") if raw is None else target.read(raw)
        entry = None
        if isinstance(result, Reply):
            assert raw is not None
            cost = None if rate is None or result.usage is None else rate.cost_usd(result.usage)
            try:
                entry = Entry.of(
                    result,
                    raw.body,
                    asked=target.label,
                    output_limit=arrival.line.output_limit,
                    cost_usd=cost,
                    latency_s=0.0,
                    attempts=1,
                    host=target.host,
                )
            except Exception as error:  # what it says of itself cannot be written: the failure of this line alone
                told = f"The reply could not be taken in: {type(error).__name__}: {error}"[:500]
                result = Failure(FailureKind.MALFORMED, told, 200, result.text[:2000], 1, cost_usd=None)
        made.append((result, raw, entry))
    return made


def failure_of(word: str, message: str) -> Failure:
    """Return the failure of a line.

    Args:
        word: The journal's or the provider's word for it.
        message: What is known of it, "" for nothing more.
    """
    kind = _KINDS.get(word)
    if kind is None:
        kind = FailureKind(word) if word in set(FailureKind) else FailureKind.SERVER
    return Failure(kind, message or _TOLD.get(kind, f"The provider answered: {word}."), attempts=1)


def reply_of(entry: Entry) -> Reply:
    """Return the reply that is stored."""
    about = entry.about
    return Reply(
        entry.text.decode("utf-8", "surrogatepass"),
        Finish(entry.finish),
        entry.usage,
        about["model"],
        about["request_id"],
        about["detail"],
        entry.calls,
    )
