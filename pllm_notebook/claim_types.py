"""The results of claims: which process owns a call, and whether answers may have arrived meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

__all__ = ["ClaimKind", "ClaimResult", "ClaimStore", "ReleaseCounts"]

ClaimKind = Literal["live", "batch"]


class ReleaseCounts(NamedTuple):
    """Counts of claims released by other owners. If they differ from earlier ones, answers may have arrived.

    Attributes:
        live: Claims released by live calls, whose answers are in the store.
        batch: Claims released by batch calls, which wait in a journalled job or are answered.
        owners: Number of other owners.
        expired: Number of those whose lease has expired.
    """

    live: int = 0
    batch: int = 0
    owners: int = 0
    expired: int = 0


class ClaimResult(NamedTuple):
    """The result of taking claims.

    Attributes:
        granted: The keys that the caller now owns. Another owner sends the rest.
        mark: The release counts at the time of the grant.
    """

    granted: frozenset[str]
    mark: ReleaseCounts


class ClaimStore(Protocol):
    """The claims of one cache directory, shared by all processes that use it (see `claims.Claims`)."""

    def take(self, kind: ClaimKind, keys: Sequence[str]) -> ClaimResult:
        """Claim the free ones among *keys*. Each granted key must be released once."""

    def release(self, kind: ClaimKind, keys: Iterable[str]) -> None:
        """Release claims."""

    def mark(self, kind: ClaimKind) -> ReleaseCounts:
        """Return the current mark, to compare with those of `take`."""

    def count_senders(self, limits: str) -> int:
        """Register this process as a sender within *limits*, and count all such processes, including this one."""

    def stop_sending(self, limits: str) -> None:
        """Unregister this process as a sender within *limits*."""
