"""Batch jobs: a journal that is written before each request, and the state machine that advances jobs.

`Journal` plans and records jobs, `Driver` advances a job by one step, and `Poller` repeats this. The providers' batch
APIs are passed in as `protocols.BatchAPI`, and the handling of answers as a function, so that nothing here depends on
a provider, a store or a run.
"""

from pllm_notebook.batch.driver import Driver
from pllm_notebook.batch.ingest import AnswerSink
from pllm_notebook.batch.job import (
    FINAL,
    KEY_CHARACTERS,
    NEXT,
    DraftLine,
    Job,
    JobDraft,
    JobLine,
    JobResult,
    JobState,
    LineOutcome,
    LineState,
    PlannedJobs,
    custom_id,
    key_in,
)
from pllm_notebook.batch.journal import Journal, JournalAccess, LeaseLostError
from pllm_notebook.batch.journal_database import JournalDamagedError, count_open_jobs, set_aside
from pllm_notebook.batch.machine import Recreation, cheaper_than, never
from pllm_notebook.batch.poller import Poller, PollTimes
from pllm_notebook.batch.split import PendingElsewhereError

__all__ = [
    "FINAL",
    "KEY_CHARACTERS",
    "NEXT",
    "AnswerSink",
    "DraftLine",
    "Driver",
    "Job",
    "JobDraft",
    "JobLine",
    "JobResult",
    "JobState",
    "Journal",
    "JournalAccess",
    "JournalDamagedError",
    "LeaseLostError",
    "LineOutcome",
    "LineState",
    "PendingElsewhereError",
    "PlannedJobs",
    "PollTimes",
    "Poller",
    "Recreation",
    "cheaper_than",
    "count_open_jobs",
    "custom_id",
    "key_in",
    "never",
    "set_aside",
]
