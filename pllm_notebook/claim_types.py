"""What a claim brings: whose a call is at this moment, and whether answers may have come meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

__all__ = ["ClaimKind", "ClaimResult", "ClaimStore", "ReleaseCounts"]

ClaimKind = Literal["live", "batch"]


class ReleaseCounts(NamedTuple):
    """What other owners have given back so far. Where it differs from an earlier one, answers may have come.

    Attributes:
        live: Claims that live calls have released: their answers are in the store.
        batch: Claims that batch calls have released: they wait in a journalled job, or are answered.
        owners: Number of other owners.
        expired: Of those, the ones whose lease has ended.
    """

    live: int = 0
    batch: int = 0
    owners: int = 0
    expired: int = 0


class ClaimResult(NamedTuple):
    """What came of taking claims.

    Attributes:
        granted: The keys that are the caller's now; another owner asks the rest.
        mark: Of the moment at which they were granted.
    """

    granted: frozenset[str]
    mark: ReleaseCounts


class ClaimStore(Protocol):
    """The claims of one cache directory, shared by all processes that use it (see `claims.Claims`)."""

    def take(self, kind: ClaimKind, keys: Sequence[str]) -> ClaimResult:
        """Claim *keys*, those that are free; each granted one is to be released once."""

    def release(self, kind: ClaimKind, keys: Iterable[str]) -> None:
        """Release claims."""

    def mark(self, kind: ClaimKind) -> ReleaseCounts:
        """Return a mark of this moment, to be compared with those of `take`."""

    def count_senders(self, limits: str) -> int:
        """Count the processes that send within the same limits, this one included, and say that this one does."""

    def stop_sending(self, limits: str) -> None:
        """Announce that this process sends no more within *limits*."""
