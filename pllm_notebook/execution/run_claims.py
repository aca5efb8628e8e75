"""Which of a run's calls this process may send: those that no other process, and no batch job, asks already.

Every call is claimed just before it is offered, not when it is planned, so that processes that began together
share the work. What another owner asks is looked for in the store until it is there, or until it is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from pllm_notebook.claim_types import ClaimKind, ClaimStore, ReleaseCounts

__all__ = ["ClaimDecision", "JobLookup", "RunClaims", "job_warnings"]

# Claimed at a time: one transaction for several calls, and few enough that they soon leave. A run whose calls end
# quickly claims more, yet not what it needs longer than this for: another process could send it meanwhile.
_MIN_CLAIMS: Mapping[ClaimKind, int] = {"live": 8, "batch": 500}
_MAX_CLAIMS: Mapping[ClaimKind, int] = {"live": 64, "batch": 500}
_FAST_S = 0.25


class JobLookup(Protocol):
    """Knows which calls wait in batch jobs. Sends nothing."""

    def any_open(self) -> bool:
        """Return whether there are open jobs at this moment, in this cache directory."""

    def waiting(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Return the ids of the jobs in which *keys* wait for an answer; a key that does not wait is left out."""


class ClaimDecision(NamedTuple):
    """What may become of some calls.

    Attributes:
        free: Keys that this run may send.
        in_jobs: Keys that wait in a batch job, with its id.
        look: Whether an answer to a free key may have come since the run was planned.
    """

    free: frozenset[str]
    in_jobs: Mapping[str, str]
    look: bool


class RunClaims:
    """The claims of one run. Used on the engine's loop alone.

    Args:
        claims: Of the cache directory, None where no other process can know of this run's answers.
        kind: How the run's calls go.
        jobs: Looks up calls that wait in batch jobs, None where there can be none.
        waits: Whether a call that waits in a job is waited for; a run whose own calls go by batch joins the job.
        soon: Calls a function on the loop in a moment.
        now: Gives the loop's seconds.

    Attributes:
        ahead: Calls that are claimed at a time; 0 where nothing is claimed.
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
        # None for not looked up.
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
        """Note how far other owners are, before the plan looks into the store."""
        if self._claims is not None:
            self._begun = self._seen = self._claims.mark(self._kind)
            self._open_jobs = None

    def take(self, keys: Sequence[str], *, again: bool = False) -> ClaimDecision:
        """Claim what is free of *keys*.

        Args:
            keys: Of calls that would be sent next.
            again: Whether they were not free before: what has become of them since is looked up afresh.
        """
        held = self._held.intersection(keys)
        if self._claims is None or len(held) == len(keys):
            return ClaimDecision(frozenset(keys), {}, False)
        if len(keys) >= self.ahead and not again:
            self._adjust_batch_size()
        granted, mark = self._claims.take(self._kind, [key for key in keys if key not in held])
        self._held |= granted
        granted |= held
        # After the claims: what journals a job holds them until the journal has the calls.
        if again or mark._replace(live=0) != self._seen._replace(live=0):
            self._seen, self._open_jobs = mark, None
        in_jobs = self._in_jobs(keys if self._kind == "live" else [key for key in keys if key not in granted])
        if self._kind == "batch":  # its dispatcher joins the job
            return ClaimDecision(granted.union(in_jobs), {}, mark != self._begun)
        if in_jobs:
            self.release(in_jobs.keys() & granted)
        return ClaimDecision(granted.difference(in_jobs), in_jobs, mark != self._begun)

    def release(self, keys: Iterable[str]) -> None:
        """Release claims at once; keys that are not held are left out."""
        mine = self._held.intersection(keys)
        if mine and self._claims is not None:
            self._held -= mine
            self._claims.release(self._kind, mine)

    def release_soon(self, keys: Iterable[str]) -> None:
        """Release claims together with others of this moment: their calls have ended."""
        if self._held:
            if not self._ended:
                self._call_soon(self._release_ended)
            self._ended.extend(keys)
            self._some_ended = True

    def end(self) -> None:
        """Release everything: the run has ended, and what it had not sent is free."""
        self.release(list(self._held))

    def _adjust_batch_size(self) -> None:
        """Adjust how many calls are claimed at a time: more where the last ones were sent soon, and some have ended."""
        now = self._now()
        if now - self._taken_at >= _FAST_S:
            self.ahead = max(_MIN_CLAIMS[self._kind], self.ahead // 2)
        elif self._some_ended:  # at its beginning a run sends many at once
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
    """Describe which rows were not sent because they wait in a batch job, and what can be done.

    Args:
        rows: Their number by the job's id.
    """
    return tuple(
        f"{'1 row waits' if count == 1 else f'{count:,} rows wait'} in batch job {job[:8]}; nothing was sent for "
        f"{'it' if count == 1 else 'them'}. wait=True waits for the job, pllm.jobs().send_live({job[:8]!r}) sends now, "
        f"at the live price."
        for job, count in rows.items()
    )
