"""What the journal holds: jobs, their states, and the lines that were sent in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pllm_notebook.types import BatchResult

__all__ = [
    "FINAL",
    "KEY_CHARACTERS",
    "NEXT",
    "DraftLine",
    "Job",
    "JobDraft",
    "JobEnding",
    "JobLine",
    "JobResult",
    "JobState",
    "LineOutcome",
    "LineState",
    "PlannedJobs",
    "custom_id",
    "key_in",
]

_PREFIX = "p1-"
# 256 bits in base64url.
KEY_CHARACTERS = 43


def custom_id(key: str) -> str:
    """Return the id that the line of *key* carries: results alone are enough to refill a cache."""
    return _PREFIX + key


def key_in(custom_id: str) -> str:
    """Return the key in a line's id, "" where the id is not one of ours."""
    return custom_id[len(_PREFIX) :] if custom_id.startswith(_PREFIX) else ""


class JobState(StrEnum):
    """How far a job is. Each is committed before the request that it names is sent."""

    PLANNED = "planned"
    UPLOADED = "uploaded"
    # From here on the provider may have made the job, and money may be owed.
    CREATING = "creating"
    UNCERTAIN = "uncertain"
    SUBMITTED = "submitted"
    RUNNING = "running"
    ENDED = "ended"
    INGESTING = "ingesting"
    # Nothing more will happen.
    DONE = "done"
    REJECTED = "rejected"
    ABANDONED = "abandoned"


NEXT: Mapping[JobState, frozenset[JobState]] = {
    JobState.PLANNED: frozenset({JobState.UPLOADED, JobState.REJECTED, JobState.DONE, JobState.ABANDONED}),
    JobState.UPLOADED: frozenset({JobState.CREATING, JobState.SUBMITTED, JobState.DONE, JobState.ABANDONED}),
    # Back to UPLOADED only for a definite "not now".
    JobState.CREATING: frozenset(
        {JobState.SUBMITTED, JobState.UNCERTAIN, JobState.REJECTED, JobState.UPLOADED, JobState.ABANDONED}
    ),
    JobState.UNCERTAIN: frozenset({JobState.SUBMITTED, JobState.UPLOADED, JobState.ABANDONED}),
    JobState.SUBMITTED: frozenset({JobState.RUNNING, JobState.ENDED, JobState.ABANDONED}),
    JobState.RUNNING: frozenset({JobState.RUNNING, JobState.ENDED, JobState.ABANDONED}),
    JobState.ENDED: frozenset({JobState.INGESTING, JobState.ABANDONED}),
    JobState.INGESTING: frozenset({JobState.DONE, JobState.ABANDONED}),
    JobState.DONE: frozenset(),
    JobState.REJECTED: frozenset(),
    JobState.ABANDONED: frozenset(),
}
"""Every step that a job may take."""

FINAL = frozenset(state for state, after in NEXT.items() if not after)
"""States that no job leaves."""

JobEnding = Literal["", "ended", "failed", "expired", "cancelled"]
"""How the provider's job ended, in the words of `RemoteJob.state`; "" before that."""

LineState = Literal["pending", "answered", "failed", "missing", "superseded"]
"""What became of one line. "superseded": its key was answered otherwise, live or in a later job."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a provider, as the journal knows it.

    Times are seconds since the epoch. Money is in US dollars, None for unknown.

    Attributes:
        id: Ours, 32 hex digits.
        cohort: The jobs of one run share it.
        provider: As in keys.
        account: The account's fingerprint; never a key or an address.
        target: The model as a person writes it, `provider:name`.
        model: The model's name as the provider takes it.
        path: The logical endpoint.
        state: How far it is.
        ending: How the provider's job ended.
        attempt: 1, and one more for each time that it was allowed to be created again.
        total: Lines.
        answered: Of them, answered and stored.
        failed: Of them, without an answer; 0 until the job is final.
        bytes: Of the request file.
        sha256: Of the request file.
        uploaded: The provider's id of the request file, "" for none.
        remote: The provider's id of the job, "" until it is known.
        remote_created_at: When the provider made it, by its own clock.
        remote_succeeded: Lines, as the provider counts; None where it does not tell, or not yet.
        remote_failed: The same.
        files: Where the results are, as the provider names it.
        known: Ids of jobs that are not ours: listed before it was created, or looked into since.
        creating_at: When its creation began, 0 for not yet.
        uncertain_at: When its creation became uncertain, 0 for never.
        created_at: When it was planned.
        changed_at: When its state last changed.
        estimate_usd: What it was expected to cost.
        cost_usd: What its answers cost, so far.
        origin: The notebook and cell that it came from, as the caller wrote it.
        message: What is known of its trouble, "" for none.
        twin_of: The job whose rows it answers a second time, "" for none: an orphan found later.
        cancel_asked: Whether it is to be cancelled.
        unknown: Results with an id of no line, kept in a file of their own.
    """

    id: str
    cohort: str
    provider: str
    account: str
    target: str
    model: str
    path: str
    state: JobState
    ending: JobEnding
    attempt: int
    total: int
    answered: int
    failed: int
    bytes: int
    sha256: str
    uploaded: str
    remote: str
    remote_created_at: float
    remote_succeeded: int | None
    remote_failed: int | None
    files: tuple[str, ...]
    known: frozenset[str]
    creating_at: float
    uncertain_at: float
    created_at: float
    changed_at: float
    estimate_usd: float | None
    cost_usd: float | None
    origin: str
    message: str
    twin_of: str
    cancel_asked: bool
    unknown: int

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINAL

    @property
    def label(self) -> str:
        """What it is created under, the same for every attempt."""
        return f"pllm-{self.id}"

    @property
    def lines_of(self) -> str:
        """The id of the job that holds its lines: an orphan has none of its own."""
        return self.twin_of or self.id


@dataclass(frozen=True, slots=True)
class JobDraft:
    """What the jobs of one plan have in common; the fields are those of `Job`."""

    cohort: str
    provider: str
    account: str
    target: str
    model: str
    path: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class DraftLine:
    """One line to be sent.

    Attributes:
        key: Of the call.
        line: As `BatchAPI.line` gives it, under `custom_id(key)`; without its end.
        output_limit: What the request carries, None for none.
        estimate_usd: None for unknown.
    """

    key: str
    line: bytes
    output_limit: int | None = None
    estimate_usd: float | None = None


@dataclass(frozen=True, slots=True)
class PlannedJobs:
    """What came of a plan. Nothing was sent.

    Attributes:
        jobs: In the order of their lines.
        too_large: Keys of lines that by themselves are larger than a job may be; they are in no job.
    """

    jobs: tuple[Job, ...]
    too_large: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobLine:
    """One request of a job.

    Attributes:
        job: Id of the job.
        number: Its place in the request file, from 0.
        key: Of the call.
        output_limit: What it was sent with, None for none.
        state: What became of it.
        failure: Why it has no answer, "" where it has one or none is known yet.
    """

    job: str
    number: int
    key: str
    output_limit: int | None
    state: LineState
    failure: str


@dataclass(frozen=True, slots=True)
class JobResult:
    """A result and the line that it belongs to."""

    line: JobLine
    result: BatchResult


@dataclass(frozen=True, slots=True)
class LineOutcome:
    """What the caller made of one arrival.

    Attributes:
        failure: The kind of failure; "" for an answer, which is on disk by now.
        cost_usd: None for unknown.
    """

    failure: str = ""
    cost_usd: float | None = 0.0
