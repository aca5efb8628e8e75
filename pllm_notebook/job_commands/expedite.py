"""Send the pending lines of a job live. The first answer to arrive goes into the cache.

The calls go through the live dispatcher of their model, within its limits, with the bytes of the stored request file,
so they keep their keys. The job continues. If it answers a call that is not yet in flight, that call is not sent;
a second answer is stored beside the job's files.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from pllm_notebook.batch import Job as BatchJob
from pllm_notebook.batch import JobLine, custom_id
from pllm_notebook.exceptions import PllmError, ProviderRejectedError, UsageError
from pllm_notebook.execution import (
    CallSpec,
    Confirm,
    Execution,
    ResultTable,
    confirm_price,
    estimated_cost_usd,
    format_estimate,
    services_for,
)
from pllm_notebook.formatting import counted, format_usd
from pllm_notebook.job_commands.batch_commands import BatchCommands
from pllm_notebook.job_commands.live_lines import FirstAnswerStore, KeptRequestSpec, LineObserver, LineRows
from pllm_notebook.job_commands.resubmission import open_batch_api, unanswered
from pllm_notebook.protocols import BatchAPI
from pllm_notebook.settings import Options, current, resolve

__all__ = ["SentLive", "send_live"]


@dataclass(frozen=True, slots=True)
class SentLive:
    """The results of sending a job's lines live.

    Attributes:
        answered: Lines answered live.
        batch_first: Lines answered by the job before they were sent.
        failed: Number of failed lines by failure kind. They stay with the job, which may still answer them.
        left: Lines not sent: budget exhausted, interrupted, or key refused.
        cost_usd: Cost of the live answers in US dollars. None if a price is unknown.
    """

    answered: int
    batch_first: int
    failed: dict[str, int] = field(hash=False)
    left: int
    cost_usd: float | None

    def __repr__(self) -> str:
        parts = [f"{counted(self.answered, 'line', 'was')} answered live ({format_usd(self.cost_usd)})"]
        parts += [f"{self.batch_first:,} by the batch before they were sent"] if self.batch_first else []
        parts += [f"{count:,} failed ({kind}) and stay with the batch" for kind, count in self.failed.items()]
        parts += [f"{self.left:,} {'was' if self.left == 1 else 'were'} not sent"] if self.left else []
        return "; ".join(parts) + "."


def send_live(commands: BatchCommands, job: BatchJob, *, confirm: Confirm = True) -> SentLive:
    """Send the unanswered lines of a job live, and wait for them.

    Their cost is limited by `max_cost_usd` of `configure` or the environment. After an interrupt, nothing more is sent.

    Args:
        commands: The commands of the job's directory.
        job: An open job.
        confirm: Whether to ask first, with the live price (see `confirmation.Confirm`).

    Raises:
        UsageError: If it has ended, its account is not available, or `max_cost_usd` cannot be enforced. Nothing was
            sent.
        NotConfirmedError: Unless the answer is yes. Nothing was sent.
        KeyboardInterrupt: After an interrupt. Answers that have arrived are kept.
    """
    name = job.id[:8]
    if job.final:
        raise UsageError(f"Batch job {name} is {job.state}: nothing of it is pending. Nothing was sent.")
    batch_service = commands.batch_service
    target = batch_service.accounts.of(job)
    if target is None:
        raise UsageError(
            f"Batch job {name} cannot be reached: {batch_service.accounts.reason_unavailable(job)} Nothing was sent."
        )
    target.load()
    settings = resolve({})
    api = commands.wait(lambda: open_batch_api(commands, job))
    keys = [line.key for line in batch_service.journal.lines.of(job.lines_of, "pending")]
    wanted = set(unanswered(commands, job, keys))
    lines = ((line, body) for line, body in _bodies(commands, job, api) if line.key in wanted)
    rows = LineRows(lines, batch_service.journal.spool.folder, target.wire.output_limit)
    if not rows.total:
        return SentLive(0, len(keys) - len(wanted), {}, 0, 0.0)
    if settings.max_cost_usd is not None and rows.most is None:
        raise UsageError(
            f"max_cost_usd={settings.max_cost_usd:g} cannot be enforced: the requests of batch job {name} were made "
            f"without an output limit. Remove the ceiling with pllm.configure(max_cost_usd=None). Nothing was sent."
        )
    options = Options(
        model=job.target,
        wait=False,
        max_retries=settings.max_retries,
        timeout_s=settings.timeout_s,
        max_cost_usd=settings.max_cost_usd,
        concurrency=settings.concurrency,
        requests_per_min=settings.requests_per_min,
        tokens_per_min=settings.tokens_per_min,
        allow_empty=True,
    )
    spec = KeptRequestSpec(target, options, rows.most)
    live_run = _LiveRun(commands, job, spec, rows)
    price = format_estimate(estimated_cost_usd(spec.rate(), rows.total, rows.size))
    what = f"{rows.total:,} of the {job.total:,} lines of batch job {name}"
    confirm_price(
        f"Send {what} live to {job.target}, for {price}? Answers that the batch also returns are paid for too.",
        f"{what} would have been sent live for {price}",
        confirm,
    )
    return commands.wait(live_run.run, live_run.stop)


class _LiveRun:
    """One run over the pending lines of a job. Used on the engine's loop after construction."""

    def __init__(self, commands: BatchCommands, job: BatchJob, spec: CallSpec, rows: LineRows) -> None:
        self._commands = commands
        store = FirstAnswerStore(commands, job, rows.output_limits)
        services = services_for(commands.engine, commands.store, spec.options, current(), kept=store)
        self._service = commands.batch_service
        self._lines = set(rows.output_limits)
        self._ended = asyncio.Event()
        self._execution = Execution([spec], rows, services, observer=self._observe)

    def _observe(self, results: ResultTable) -> LineObserver:
        self._observer = LineObserver(self._commands, results)
        return self._observer

    def _end(self) -> None:
        self._observer.end()
        self._ended.set()

    async def run(self) -> SentLive:
        """Send every line and return the results."""
        lines, service, observer, execution = self._lines, self._service, self._observer, self._execution
        service.being_sent_live |= lines
        try:
            execution.on_end = self._end
            execution.begin()
            try:
                await observer.mark_until_end()
            except PllmError as error:  # the journal cannot be written
                execution.stop("failed", error)
                await self._ended.wait()
            open_ = lines & service.being_sent_live  # unanswered: failed live, or not sent
        finally:
            service.being_sent_live -= lines
            service.answered_live_first -= lines
        # A refusal that affects all lines is already counted for those that were sent.
        if execution.error is not None and not isinstance(execution.error, ProviderRejectedError):
            raise execution.error
        failed = Counter(str(kind) for key, kind in observer.failed.items() if key in open_)
        batch_first = len(lines) - observer.answered - len(open_)
        return SentLive(observer.answered, batch_first, dict(failed), len(open_) - failed.total(), observer.cost_usd)

    def stop(self) -> None:
        """Send nothing more."""
        self._execution.stop("cancelled", None)


def _bodies(commands: BatchCommands, job: BatchJob, api: BatchAPI) -> Iterator[tuple[JobLine, bytes]]:
    """Yield each pending line with its request body.

    The provider's wrapper around the body is found by building the line of an empty body. Other lines are left out.
    """
    for line, content in commands.batch_service.journal.requests(job.lines_of, "pending"):
        around = api.line(custom_id(line.key), b"")
        if content.startswith(around[:-1]) and content.endswith(around[-1:]):
            yield line, content[len(around) - 1 : -1]
