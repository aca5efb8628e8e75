"""Claims on a run's calls: this process sends only calls that no other process, and no batch job, already sends.

Every call is claimed just before it is offered to the dispatcher, not when it is planned, so that processes that start
together share the work. For a call of another owner, the store is checked until it has the answer, or the call is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from pllm_notebook.claim_types import ClaimKind, ClaimStore, ReleaseCounts

__all__ = ["ClaimDecision", "JobLookup", "RunClaims", "job_warnings"]

# Number of calls claimed at a time: several per transaction, but few enough that they are soon sent. A run whose calls
# are sent within `_FAST_S` claims more, but not calls that would wait longer: another process could send them.
_MIN_CLAIMS: Mapping[ClaimKind, int] = {"live": 8, "batch": 500}
_MAX_CLAIMS: Mapping[ClaimKind, int] = {"live": 64, "batch": 500}
_FAST_S = 0.25


class JobLookup(Protocol):
    """Look up which calls wait in batch jobs. Sends nothing."""

    def any_open(self) -> bool:
        """Return whether this cache directory has open jobs at present."""

    def waiting(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Return the id of the job in which each of *keys* waits. Keys that do not wait are left out."""


class ClaimDecision(NamedTuple):
    """The result of claiming some calls.

    Attributes:
        free: Keys that this run may send.
        in_jobs: Job id of each key that waits in a batch job.
        look: Whether an answer to a free key may have appeared since planning.
    """

    free: frozenset[str]
    in_jobs: Mapping[str, str]
    look: bool


class RunClaims:
    """The claims of one run. Used on the engine's loop alone.

    Args:
        claims: The claims of the cache directory, None if the run's answers cannot be shared with other processes.
        kind: How the run sends its calls.
        jobs: Looks up calls that wait in batch jobs, None if there can be none.
        waits: Whether the run waits for calls that are in batch jobs. A batch run joins the job in any case.
        soon: Calls a function on the loop after a short delay.
        now: Returns the seconds on the loop's clock.

    Attributes:
        ahead: Number of calls claimed at a time; 0 if nothing is claimed.
        waits: As given.
    """

    def __init__(
        self,
        claims: ClaimStore | None,
        kind: ClaimKind,
        jobs: JobLookup | None,
        *,
        waits: bool,
        soon: Callable[[Callable[[], None]], object],
        now: Callable[[], float],
    ) -> None:
        self._claims = claims
        self._kind: ClaimKind = kind
        self._jobs = jobs
        self.waits = waits
        self._begun = self._seen = ReleaseCounts()
        # Whether any jobs are open; None if not looked up.
        self._open_jobs: bool | None = None
        self._held: set[str] = set()
        self._ended: list[str] = []
        self._call_soon = soon
        self._now = now
        self.ahead = 0 if claims is None else _MIN_CLAIMS[self._kind]
        self._taken_at = float("-inf")
        # Whether calls have ended since then.
        self._some_ended = False

    def begin(self) -> None:
        """Record the release counts of other owners, before the plan checks the store."""
        if self._claims is not None:
            self._begun = self._seen = self._claims.mark(self._kind)
            self._open_jobs = None

    def take(self, keys: Sequence[str], *, again: bool = False) -> ClaimDecision:
        """Claim those of *keys* that are free.

        Args:
            keys: Keys of the calls that would be sent next.
            again: Whether they were not free before, so that the jobs are looked up again.
        """
        held = self._held.intersection(keys)
        if self._claims is None or len(held) == len(keys):
            return ClaimDecision(frozenset(keys), {}, False)
        if len(keys) >= self.ahead and not again:
            self._adjust_batch_size()
        granted, mark = self._claims.take(self._kind, [key for key in keys if key not in held])
        self._held |= granted
        granted |= held
        # Look up jobs after claiming: a process that submits a job keeps its claims until the journal has the calls.
        if again or mark._replace(live=0) != self._seen._replace(live=0):
            self._seen, self._open_jobs = mark, None
        in_jobs = self._in_jobs(keys if self._kind == "live" else [key for key in keys if key not in granted])
        if self._kind == "batch":  # its dispatcher joins the job
            return ClaimDecision(granted.union(in_jobs), {}, mark != self._begun)
        if in_jobs:
            self.release(in_jobs.keys() & granted)
        return ClaimDecision(granted.difference(in_jobs), in_jobs, mark != self._begun)

    def release(self, keys: Iterable[str]) -> None:
        """Release claims at once. Keys that are not held are ignored."""
        mine = self._held.intersection(keys)
        if mine and self._claims is not None:
            self._held -= mine
            self._claims.release(self._kind, mine)

    def release_soon(self, keys: Iterable[str]) -> None:
        """Release the claims of ended calls a little later, together with others."""
        if self._held:
            if not self._ended:
                self._call_soon(self._release_ended)
            self._ended.extend(keys)
            self._some_ended = True

    def end(self) -> None:
        """Release all claims, since the run has ended. Calls that it did not send become free."""
        self.release(list(self._held))

    def _adjust_batch_size(self) -> None:
        """Adjust the number of calls claimed at a time: more if the last ones were sent quickly and some have ended."""
        now = self._now()
        if now - self._taken_at >= _FAST_S:
            self.ahead = max(_MIN_CLAIMS[self._kind], self.ahead // 2)
        elif self._some_ended:  # before that, speed means nothing: a starting run sends many calls at once
            self.ahead = min(_MAX_CLAIMS[self._kind], 2 * self.ahead)
        self._taken_at, self._some_ended = now, False

    def _release_ended(self) -> None:
        ended, self._ended = self._ended, []
        self.release(ended)

    def _in_jobs(self, keys: Sequence[str]) -> Mapping[str, str]:
        if self._jobs is None or not keys:
            return {}
        if self._open_jobs is None:
            self._open_jobs = self._jobs.any_open()
        return self._jobs.waiting(keys) if self._open_jobs else {}


def job_warnings(rows: Mapping[str, int]) -> tuple[str, ...]:
    """Describe how many rows were not sent because they wait in a batch job, and what the user can do.

    Args:
        rows: Number of rows by job id.
    """
    return tuple(
        f"{'1 row waits' if count == 1 else f'{count:,} rows wait'} in batch job {job[:8]}; nothing was sent for "
        f"{'it' if count == 1 else 'them'}. wait=True waits for the job, pllm.jobs().send_live({job[:8]!r}) sends now, "
        f"at the live price."
        for job, count in rows.items()
    )
