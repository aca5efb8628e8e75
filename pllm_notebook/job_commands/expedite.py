"""Sending live what a job has not answered yet: whichever answer comes first is the cache's.

The calls go through the live dispatcher of their model, under its limits and in the bytes of the kept request file,
so they have the keys that they had. The job goes on. An answer of its own to a call that is not yet on the wire
spares that call; a second answer is put beside the job's files.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from pllm_notebook.batch import Job as BatchJob
from pllm_notebook.batch import JobLine, custom_id
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution.budget import ModelBudget, RunBudget
from pllm_notebook.execution.confirmation import Confirm, confirm_price, estimated_cost_usd, format_estimate
from pllm_notebook.job_commands.commands import BatchCommands
from pllm_notebook.job_commands.live_sender import LiveSender, SentLive, live_rate
from pllm_notebook.job_commands.resubmission import open_batch_api, unanswered
from pllm_notebook.protocols import BatchAPI
from pllm_notebook.settings import resolve

__all__ = ["SentLive", "send_live"]


def send_live(commands: BatchCommands, job: BatchJob, *, confirm: Confirm = True) -> SentLive:
    """Send the lines of a job live that have no answer yet, and wait for them.

    `max_cost_usd` of `configure` or the environment is their ceiling. An interrupt sends no more.

    Args:
        commands: Of the job's directory.
        job: Is open.
        confirm: Whether to ask first, with the live price (see `consent.Confirm`).

    Raises:
        UsageError: If it has ended, or its account is not available. Nothing was sent.
        NotConfirmedError: Unless the answer is yes. Nothing was sent.
        KeyboardInterrupt: After an interrupt; what had arrived is kept.
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
    options = resolve({})
    rate = live_rate(target)
    api = commands.wait(lambda: open_batch_api(commands, job))
    keys = [line.key for line in batch_service.journal.lines.of(job.lines_of, "pending")]
    wanted = set(unanswered(commands, job, keys))
    limits: list[int | None] = []
    sizes: list[int] = []
    for line, body in _bodies(commands, job, api):
        if line.key in wanted:
            limits.append(target.wire.output_limit(orjson.loads(body)))
            sizes.append(len(body))
    if not sizes:
        return SentLive(0, len(keys) - len(wanted), {}, 0, 0.0)
    limit = None if None in limits else max(each for each in limits if each is not None)
    if options.max_cost_usd is not None and limit is None:
        raise UsageError(
            f"max_cost_usd={options.max_cost_usd:g} cannot be kept: the requests of batch job {name} were made without "
            f"an output limit. Take the ceiling away with pllm.configure(max_cost_usd=None). Nothing was sent."
        )
    budget = ModelBudget(RunBudget(options.max_cost_usd), rate, limit, target.label)
    price = format_estimate(estimated_cost_usd(rate, len(sizes), sum(sizes)))
    lines = f"{len(sizes):,} of the {job.total:,} lines of batch job {name}"
    confirm_price(
        f"Send {lines} live to {job.target}, for {price}? What the batch answers all the same is paid for too.",
        f"{lines} would have been sent live for {price}",
        confirm,
    )
    sending = LiveSender(commands, job, target, options, budget, wanted, _bodies(commands, job, api))
    return commands.wait(sending.run, sending.stop)


def _bodies(commands: BatchCommands, job: BatchJob, api: BatchAPI) -> Iterator[tuple[JobLine, bytes]]:
    """Return the bodies of the lines; what a provider's batch puts around a body is the same for an empty one."""
    for line, content in commands.batch_service.journal.requests(job.lines_of, "pending"):
        around = api.line(custom_id(line.key), b"")
        if content.startswith(around[:-1]) and content.endswith(around[-1:]):
            yield line, content[len(around) - 1 : -1]
