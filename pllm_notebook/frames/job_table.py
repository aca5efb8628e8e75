"""`pllm.jobs()`: the batch jobs as a table, and commands for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from typing_extensions import deprecated

from pllm_notebook.batch import Job, JobState
from pllm_notebook.execution import Confirm
from pllm_notebook.formatting import format_duration, format_usd
from pllm_notebook.frames.dtypes import CellType
from pllm_notebook.frames.libraries import default_library
from pllm_notebook.job_commands import BatchCommands, SentLive, commands, has_journal, resubmit, send_live, short_ids
from pllm_notebook.report_tables import html_table, text_table
from pllm_notebook.settings import current
from pllm_notebook.signatures import lists
from pllm_notebook.store import chosen_directory

__all__ = ["Jobs"]

_COLUMNS = {
    "job": CellType.TEXT,
    "state": CellType.TEXT,
    "model": CellType.TEXT,
    "total": CellType.INTEGER,
    "answered": CellType.INTEGER,
    "failed": CellType.INTEGER,
    "answered_elsewhere": CellType.INTEGER,
    "age": CellType.DURATION,
    "estimate_usd": CellType.REAL,
    "cost_usd": CellType.REAL,
    "origin": CellType.TEXT,
    "message": CellType.TEXT,
    "otherwise": CellType.INTEGER,  # the old name of answered_elsewhere, kept for one release
}
# A message ends with advice, so its end must fit.
_SHOWN_MESSAGE = 400


@lists("abandon", "cancel", "fetch", "frame", "recreate", "refresh", "resubmit", "send_live", "unreached")
class Jobs:
    """The batch jobs of a cache directory, newest first. The journal is read again at each use.

    Job ids may be abbreviated to any unique prefix. Methods that contact a provider block until they are done; an
    interrupt ends the wait but never a job.

    Args:
        ids: Only these jobs. None for all.
        cache_dir: Directory of the jobs. None for the current cache directory.
        show: Shows the table with buttons, and returns False if it cannot. None for a table without buttons.
        open_commands: Opens the journal of a directory.
        clock: Returns seconds since the epoch.
    """

    def __init__(
        self,
        ids: Sequence[str] | None = None,
        *,
        cache_dir: str | None = None,
        show: Callable[[Jobs], bool] | None = None,
        open_commands: Callable[[str | None], BatchCommands] = commands,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ids = None if ids is None else set(ids)
        self._cache_dir = cache_dir
        self._show = show
        self._open_commands = open_commands
        self._clock = clock

    def __iter__(self) -> Iterator[Job]:
        # Listing jobs must not create a journal.
        if not has_journal(chosen_directory(self._cache_dir or current().cache_dir)[0]):
            return iter(())
        return iter([job for job in self._open().jobs() if self._ids is None or job.id in self._ids])

    def __len__(self) -> int:
        return len(list(iter(self)))

    @property
    def frame(self) -> Any:
        """The jobs as a frame, one line per job.

        Columns: job (its shortened id), state (including how the job ended), model, total, answered and failed (numbers
        of lines; the provider's counts while the job runs, NA if it does not report them), answered_elsewhere (lines
        answered live or in a later job, NA while the job is open), age, estimate_usd and cost_usd (NA if unknown),
        origin (notebook and cell, or script), message (the problem, "" for none). `otherwise` is the old name of
        answered_elsewhere.
        """
        records = self._records()
        return default_library().report(_COLUMNS, records)

    @property
    def unreached(self) -> int:
        """Number of open jobs whose account is not available in this process: the key is missing or a different one."""
        jobs = [job for job in self if not job.final]
        return sum(bool(self._open().batch_service.accounts.reason_unavailable(job)) for job in jobs)

    def refresh(self, job: str | None = None) -> Jobs:
        """Poll one job, or all open jobs, once."""
        return self._of(self._open().refresh(self._some(job))) if job is not None or len(self) else self

    def fetch(self, job: str | None = None) -> Jobs:
        """Advance one job, or all open jobs, as far as possible now. Results of ended jobs are then in the cache.

        A job that was planned but not sent because its kernel ended is submitted.
        """
        return self._of(self._open().fetch(self._some(job))) if job is not None or len(self) else self

    def cancel(self, job: str) -> Jobs:
        """Cancel a job. Lines that are answered by then are paid for and kept.

        Raises:
            UsageError: If its account is not available. Nothing was sent.
        """
        commands = self._open()
        return self._of([commands.cancel(commands.find(job))])

    def resubmit(self, job: str, *, confirm: Confirm = True) -> Jobs:
        """Resubmit only the failed, expired and missing lines of a job, after asking for confirmation with the price.

        Args:
            job: The job's id.
            confirm: Whether to ask, or a function that answers the question instead of a person.

        Returns:
            The new jobs, empty if every line has an answer by now or waits in a later job.

        Raises:
            UsageError: If the job has not ended, or its account is not available. Nothing was sent.
            NotConfirmedError: Unless the answer is yes. Nothing was sent.
        """
        commands = self._open()
        return self._of(resubmit(commands, commands.find(job), confirm=confirm))

    def send_live(self, job: str, *, confirm: Confirm = True) -> SentLive:
        """Send a job's pending lines live and wait for them, after asking for confirmation with the live price.

        The job continues. The first answer to a line is stored in the cache. A second answer is also paid for, and is
        written beside the job's files. After an interrupt nothing more is sent. `max_cost_usd` of `configure` is the
        ceiling.

        Args:
            job: The job's id.
            confirm: Whether to ask, or a function that answers the question instead of a person.

        Raises:
            UsageError: If the job has ended, or its account is not available. Nothing was sent.
            NotConfirmedError: Unless the answer is yes. Nothing was sent.
        """
        commands = self._open()
        return send_live(commands, commands.find(job), confirm=confirm)

    @deprecated("pllm.jobs().hurry is now send_live.")
    def hurry(self, job: str, *, confirm: Confirm = True) -> SentLive:
        """Call `send_live`. This old name is kept for one release."""
        return self.send_live(job, confirm=confirm)

    def recreate(self, job: str) -> Jobs:
        """Create an uncertain job again. If the first one was created after all, both are paid for.

        Raises:
            UsageError: If the job may still appear at the provider, or is not uncertain. Nothing was sent.
        """
        commands = self._open()
        return self._of([commands.recreate(commands.find(job))])

    def abandon(self, job: str) -> Jobs:
        """Abandon a job: its rows may be sent again, and its remaining answers are lost. Sends nothing.

        Raises:
            UsageError: If the job can be cancelled instead. Nothing was changed.
        """
        commands = self._open()
        return self._of([commands.abandon(commands.find(job))])

    def _of(self, jobs: Sequence[Job]) -> Jobs:
        ids = [job.id for job in jobs]
        return Jobs(
            ids, cache_dir=self._cache_dir, show=self._show, open_commands=self._open_commands, clock=self._clock
        )

    def _open(self) -> BatchCommands:
        return self._open_commands(self._cache_dir)

    def _some(self, job: str | None) -> list[Job]:
        return [each for each in self if not each.final] if job is None else [self._open().find(job)]

    def _records(self) -> list[dict[str, Any]]:
        jobs = list(self)
        if not jobs:
            return []
        opened = self._open()
        names = short_ids(opened.jobs())
        now = self._clock()
        records = []
        for job in jobs:
            elsewhere = job.total - job.answered - job.failed if job.final and not job.twin_of else None
            message = job.message or ("" if job.final else opened.batch_service.accounts.reason_unavailable(job))
            records.append(
                {
                    "job": names[job.id],
                    "state": _state(job),
                    "model": job.target,
                    "total": job.total,
                    "answered": job.answered if job.final else job.remote_succeeded,
                    "failed": job.failed if job.final else job.remote_failed,
                    "answered_elsewhere": elsewhere,
                    "otherwise": elsewhere,
                    "age": timedelta(seconds=round(now - job.created_at)),
                    "estimate_usd": job.estimate_usd,
                    "cost_usd": job.cost_usd if job.final else None,
                    "origin": job.origin,
                    "message": message,
                }
            )
        return records

    def _table(self) -> list[list[str]]:
        """Return the lines of the table as text, header first."""
        head = ["job", "state", "model", "rows", "answered", "failed", "age", "price", "from", "message"]
        lines = [
            [
                each["job"], each["state"], _marked(each["model"]), f"{each['total']:,}",
                _count(each["answered"]) + _elsewhere(each["answered_elsewhere"]),
                _count(each["failed"]), _span(each["age"]), _price(each["estimate_usd"], each["cost_usd"]),
                each["origin"], _cut(each["message"]),
            ]
            for each in self._records()
        ]  # fmt: skip
        return [head, *lines]

    def __repr__(self) -> str:
        table = self._table()
        return text_table(table) if len(table) > 1 else "No batch jobs."

    def _repr_html_(self) -> str:
        head, *lines = self._table()
        if not lines:
            return "<p>No batch jobs.</p>"
        return html_table(head, lines)

    def _ipython_display_(self) -> None:
        """Show the table with buttons in a notebook with widgets, otherwise without buttons."""
        if not (self._show is not None and len(self) and self._show(self)):
            raise NotImplementedError  # makes IPython use another representation


def _state(job: Job) -> str:
    if job.state is JobState.DONE and job.ending not in ("", "ended"):
        return job.ending
    return f"{job.state}, cancelling" if job.cancel_asked and not job.final else str(job.state)


def _marked(model: str) -> str:
    return f"{model} (SIMULATED)" if model.startswith("sim:") else model


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _elsewhere(number: int | None) -> str:
    return f" + {number:,} elsewhere" if number else ""


def _price(estimate: float | None, cost: float | None) -> str:
    if cost is not None:
        return format_usd(cost)
    return "unknown" if estimate is None else f"about {format_usd(estimate)}"


def _span(age: timedelta) -> str:
    return format_duration(max(0.0, age.total_seconds()))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_MESSAGE else f"{text[: _SHOWN_MESSAGE - 1]}…"
