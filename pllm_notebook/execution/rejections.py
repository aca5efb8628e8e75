"""Decide whether a provider rejects one row or every row, from the results of other rows instead of a status.

A 403 may mean a revoked key or one text that a firewall rejects, and a 400 an overdrawn account or one prompt that is
too long. If the same rejection comes `SAME_REJECTION_LIMIT` times without an answer in between, it concerns every row,
and the run ends. If other calls are answered, it concerns only its own row. Until that is known, a rejected call is
held: it is neither failed nor sent again.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from pllm_notebook.exceptions import sentence
from pllm_notebook.execution.next_call import Tag
from pllm_notebook.execution.packing.packer import Pack
from pllm_notebook.failures import Failure, FailureKind

__all__ = [
    "FIRST_CALLS",
    "SAME_REJECTION_LIMIT",
    "HeldCall",
    "RejectionTracker",
    "is_about_row",
    "row_rejection",
    "shared_message",
    "shared_rejection",
]

SAME_REJECTION_LIMIT = 5
"""Number of equal rejections without an answer in between that count as affecting every row."""

FIRST_CALLS = 48
"""Maximum number of calls in flight before the first answer, so that a rejection of every row meets only these."""

# Number of rejections of any kind, before the first answer, that count as affecting every row.
_ANY_REJECTION_LIMIT = 20

_REJECTION_KINDS = frozenset(
    {
        FailureKind.BAD_REQUEST,
        FailureKind.AUTHENTICATION,
        FailureKind.PERMISSION,
        FailureKind.UNKNOWN_MODEL,
        FailureKind.QUOTA,
        FailureKind.REJECTED,
    }
)
# Kinds that clearly concern the account or the address if nothing has been answered yet.
_ACCOUNT_KINDS = frozenset({FailureKind.AUTHENTICATION, FailureKind.REJECTED})
_TOO_LONG = re.compile(
    r"context[_ ]length|context window|string_above_max_length"
    r"|\b(prompt|input|request|message|string|content|document|text)\b.{0,60}\btoo (long|large)",
    re.IGNORECASE | re.DOTALL,
)
# The parts that differ between two rejections of one sort: quotes, addresses, and any word with a digit.
_VARIES = re.compile(r"""(["'`])[^"'`]{0,400}\1|[“‘][^”’]{0,400}[”’]|https?://\S+|\S*\d\S*|\s+""")

HeldCall = tuple[Tag, Failure]
"""The purpose of a rejected call, and its failure."""


def is_about_row(failure: Failure) -> bool:
    """Return whether a rejection states that this row is too long, so that it need not affect other rows."""
    return failure.kind is FailureKind.BAD_REQUEST and (
        failure.status == 413 or _TOO_LONG.search(failure.message[:1000]) is not None
    )


def row_rejection(failure: Failure) -> Failure:
    """Return the failure of a row that was rejected while others were answered."""
    if failure.kind is FailureKind.AUTHENTICATION and failure.status is None:
        return replace(failure, kind=FailureKind.CONNECTION)  # the client could not sign in this time
    # A quota failure keeps its kind: the answered calls may have been sent before the quota was used up.
    return (
        replace(failure, kind=FailureKind.BAD_REQUEST)
        if failure.kind in _REJECTION_KINDS - {FailureKind.QUOTA}
        else failure
    )


def shared_rejection(failure: Failure) -> Failure:
    """Return the failure of a row that was rejected for a reason that applies to all."""
    return replace(failure, kind=FailureKind.REJECTED) if failure.kind is FailureKind.BAD_REQUEST else failure


def shared_message(label: str, rejection: Failure, count: int) -> str:
    """Describe why a run ends: a model has rejected *count* calls for a reason that applies to all."""
    is_plain = rejection.kind is FailureKind.REJECTED
    how = "what every row sends" if is_plain else f"({rejection.kind.replace('_', ' ')})"
    message = f"{label} refused {how}: {rejection.message}"
    if count > 1:
        message = f"{sentence(message)} {count:,} calls were refused with no answer between, so the rest was not sent."
    return message


class RejectionTracker:
    """Hold one run's rejected calls until it is known which rows are affected. Used only on the engine's loop.

    Args:
        at_once: Whether the run ends at its first failure, without waiting for other results.

    Attributes:
        at_once: Whether the run ends at its first failure.
        held: Rejected calls, with their failures.
        answered: Whether a call of this run has been answered.
        suspected: A rejection that seems to affect every row, None for none. While it is set, nothing new is sent, and
            the results of the calls in flight are awaited. An answer clears it.
    """

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once
        self.suspected: Failure | None = None
        self.answered = False
        self.held: list[HeldCall] = []
        # Number of rejections since the last answer, by signature.
        self._alike: Counter[tuple[object, ...]] = Counter()

    def __repr__(self) -> str:
        return f"RejectionTracker(held={len(self.held)}, suspected={self.suspected!r}, answered={self.answered})"

    def holds(self, failure: Failure) -> bool:
        """Return whether to hold a call with this failure."""
        return failure.kind in _REJECTION_KINDS and not is_about_row(failure)

    def hold(self, tag: Tag, failure: Failure) -> None:
        """Hold a rejected call."""
        self.held.append((tag, failure))
        sort = _signature(failure)
        self._alike[sort] += 1
        if self.suspected is None and self._seems_shared(failure, self._alike[sort]):
            self.suspected = failure

    def success(self) -> None:
        """Record an answer, which shows that the held calls were rejected individually."""
        if self.held or not self.answered:
            self.answered = True
            self._alike.clear()
            self.suspected = None

    def verdict(self, *, over: bool, known: bool) -> Failure | None:
        """Return the rejection that applies to every row, None if there is none or it is not known yet.

        Args:
            over: Whether nothing is left to be sent, so that nothing more can be learned.
            known: Whether the store had valid answers to calls of this spec, so that it has succeeded before.
        """
        if self.suspected is not None or not (over or self.at_once):
            return self.suspected
        if self.answered or known:
            return None
        # One row of a pack may have caused its rejection.
        rejected = (failure for tag, failure in self.held if not isinstance(tag, Pack))
        return next((failure for failure in rejected if failure.kind.fatal), None)

    def release(self) -> list[HeldCall]:
        """Return the held calls, and release them."""
        held, self.held = self.held, []
        return held

    def _seems_shared(self, failure: Failure, count: int) -> bool:
        """Return whether a rejection that came *count* times since the last answer seems to affect every row."""
        certain = failure.kind is FailureKind.QUOTA or (failure.kind in _ACCOUNT_KINDS and not self.answered)
        if certain or count >= SAME_REJECTION_LIMIT:
            return True
        return not self.answered and self._alike.total() >= _ANY_REJECTION_LIMIT


def _signature(failure: Failure) -> tuple[object, ...]:
    """Return a signature that is equal for rejections of the same sort."""
    words = _VARIES.sub(" ", failure.message[:1000].lower())
    return failure.kind, failure.status, failure.field, words[:300]
