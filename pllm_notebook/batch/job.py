"""The records of the journal: jobs, their states and their lines."""

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
    """Return the line id for *key*. It contains the key, so that a cache can be refilled from results alone."""
    return _PREFIX + key


def key_in(custom_id: str) -> str:
    """Return the key in a line's id, "" if the id is not one of ours."""
    return custom_id[len(_PREFIX) :] if custom_id.startswith(_PREFIX) else ""


class JobState(StrEnum):
    """The state of a job. Each state is committed before its request is sent."""

    PLANNED = "planned"
    UPLOADED = "uploaded"
    # From here on the provider may have created the job and may charge for it.
    CREATING = "creating"
    UNCERTAIN = "uncertain"
    SUBMITTED = "submitted"
    RUNNING = "running"
    ENDED = "ended"
    INGESTING = "ingesting"
    # Final states.
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
"""The allowed state transitions of a job."""

FINAL = frozenset(state for state, after in NEXT.items() if not after)
"""The final states."""

JobEnding = Literal["", "ended", "failed", "expired", "cancelled"]
"""How the provider's job ended, in the words of `RemoteJob.state`; "" before that."""

LineState = Literal["pending", "answered", "failed", "missing", "superseded"]
"""The state of one line. "superseded" means that its key was answered in another way, live or in a later job."""


@dataclass(frozen=True, slots=True)
class Job:
    """The journal's record of one job of a provider.

    Times are seconds since the epoch. Amounts are US dollars, None if unknown.

    Attributes:
        id: Our job id, 32 hex digits.
        cohort: Id shared by the jobs of one run.
        provider: The provider's name as in keys.
        account: Fingerprint of the account; never a key or an address.
        target: The model as the user writes it, `provider:name`.
        model: The provider's name of the model.
        path: The logical endpoint.
        state: State of the job.
        ending: How the provider's job ended.
        attempt: 1, plus one for each time that the job was allowed to be created again.
        total: Number of lines.
        answered: Number of lines answered and stored.
        failed: Number of lines without an answer; 0 until the job is final.
        bytes: Size of the request file.
        sha256: Hash of the request file.
        uploaded: The provider's id of the request file, "" for none.
        remote: The provider's id of the job, "" until known.
        remote_created_at: Creation time by the provider's clock.
        remote_succeeded: Number of successful lines as counted by the provider; None if not reported, or not yet.
        remote_failed: Number of failed lines as counted by the provider; None as above.
        files: The provider's names of the result files.
        known: Ids of jobs that are not ours: listed before this job was created, or examined since.
        creating_at: Start of its creation, 0 if not started.
        uncertain_at: Time when its creation became uncertain, 0 for never.
        created_at: Time of planning.
        changed_at: Time of the last state change.
        estimate_usd: Estimated cost.
        cost_usd: Cost of its answers so far.
        origin: The notebook and cell of origin, as written by the caller.
        message: Description of a problem, "" for none.
        twin_of: For an orphan found later, the job whose rows it answers a second time; else "".
        cancel_asked: Whether cancellation was requested.
        unknown: Number of results whose id matches no line. They are kept in a separate file.
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
        """Whether the job is in a final state."""
        return self.state in FINAL

    @property
    def label(self) -> str:
        """The label with which the job is created, the same for every attempt."""
        return f"pllm-{self.id}"

    @property
    def lines_of(self) -> str:
        """Id of the job that has its lines. An orphan has no lines of its own."""
        return self.twin_of or self.id


@dataclass(frozen=True, slots=True)
class JobDraft:
    """The fields shared by the jobs of one plan, as in `Job`."""

    cohort: str
    provider: str
    account: str
    target: str
    model: str
    path: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class DraftLine:
    """One line to send.

    Attributes:
        key: Key of the call.
        line: The line from `BatchAPI.line` with the id `custom_id(key)`, without its newline.
        output_limit: The request's output limit, None for none.
        estimate_usd: Estimated cost, None if unknown.
    """

    key: str
    line: bytes
    output_limit: int | None = None
    estimate_usd: float | None = None


@dataclass(frozen=True, slots=True)
class PlannedJobs:
    """The result of a plan. Nothing was sent.

    Attributes:
        jobs: The jobs, in the order of their lines.
        too_large: Keys of single lines that exceed a job's size limit. They are in no job.
    """

    jobs: tuple[Job, ...]
    too_large: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobLine:
    """One request of a job.

    Attributes:
        job: Id of the job.
        number: Position in the request file, from 0.
        key: Key of the call.
        output_limit: The request's output limit, None for none.
        state: State of the line.
        failure: Why it has no answer; "" if it has one, or if it is still pending.
    """

    job: str
    number: int
    key: str
    output_limit: int | None
    state: LineState
    failure: str


@dataclass(frozen=True, slots=True)
class JobResult:
    """A result and its line."""

    line: JobLine
    result: BatchResult


@dataclass(frozen=True, slots=True)
class LineOutcome:
    """The caller's outcome for one arrival.

    Attributes:
        failure: The failure kind; "" for an answer, which is on disk.
        cost_usd: Cost in US dollars, None if unknown.
    """

    failure: str = ""
    cost_usd: float | None = 0.0
