"""The head of a run's view (state, counts, speed, cost), and its batch jobs."""

from __future__ import annotations

from typing import Any, NamedTuple

from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.execution.run_view.failure_groups import can_pass
from pllm_notebook.formatting import budget_stop_note, counted, jobs_note
from pllm_notebook.types import Progress

__all__ = ["Controls", "controls_of", "head_of", "jobs_of"]

# Minimum number of ended rows for a projection of the cost.
_LEAST_ANSWERED = 5


class Controls(NamedTuple):
    """The actions that a run allows at present, and its start time.

    Attributes:
        started_at: Seconds since 1970.
        is_planned: Whether all rows have been planned.
        is_stopping: Whether the run is stopping: nothing more is sent.
        is_paused: Whether the run is paused: nothing is sent for now.
        can_pause: Whether it can be paused.
        can_retry: Whether it can be retried once it has ended.
        retryable: Number of failed rows that a retry sends.
    """

    started_at: float
    is_planned: bool = True
    is_stopping: bool = False
    is_paused: bool = False
    can_pause: bool = False
    can_retry: bool = False
    retryable: int = 0


def controls_of(run: LiveRun) -> Controls:
    """Return the actions that *run* allows at present."""
    execution = run.execution
    return Controls(
        run.started_at,
        execution.results.planned,
        execution.is_stopping,
        execution.paused,
        # A batch job cannot be paused: it continues at the provider.
        can_pause=run.spec.options.mode != "batch",
        can_retry=not execution.broken,
        retryable=sum(rows.count for kind, rows in list(run.table.failed.items()) if can_pass(kind)),
    )


def jobs_of(progress: Progress) -> list[dict[str, Any]]:
    """Return the batch jobs of a run's view (see `RunViewModel`)."""
    return [
        {
            "job": job.id, "state": job.state, "requests": job.total, "answered": job.answered, "failed": job.failed,
            "created_at": job.created_at, "ends_at": job.ends_at, "price_usd": job.price_usd, "open": job.is_open,
            "message": job.message,
        }
        for job in progress.jobs
    ]  # fmt: skip


def head_of(progress: Progress, controls: Controls) -> dict[str, Any]:
    """Return the head of a run's view (see `RunViewModel`)."""
    p, c = progress, controls
    state, says = _state(p, c)
    going = p.state == "running"
    pausable = going and c.can_pause and not c.is_stopping
    retried, retry = _retry(p, c)
    open_jobs = jobs_note(p.open_jobs)
    return {
        "label": p.label, "model": p.model, "simulated": p.simulated, "unit": p.unit,
        "batch": p.is_batch, "stop": "Stop waiting" if p.is_batch else "Stop",
        "stop_says": f"Wait no longer. {open_jobs}".rstrip() if p.is_batch else "Stop, and keep every finished row.",
        "retry": retry,
        "state": state, "says": says, "ended": not going,
        "total": p.total, "done": p.done, "cached": p.cached, "failed": p.failed, "not_sent": p.not_sent,
        "skipped": p.skipped, "pending": p.pending, "in_flight": p.in_flight,
        "rows_per_s": round(p.rows_per_s, 2), "eta_s": None if state == "paused" else p.eta_s,
        "elapsed_s": round(p.elapsed_s, 1), "started_at": c.started_at,
        "cost_usd": p.cost_usd, "projected_usd": _projected_usd(p), "budget_usd": p.budget_usd,
        "maybe_paid_requests": p.maybe_paid_requests, "maybe_paid_usd": p.maybe_paid_usd,
        "reserved_usd": p.reserved_usd, "tokens": p.input_tokens + p.output_tokens,
        "input_tokens": p.input_tokens, "cached_tokens": p.cached_tokens, "note": p.note,
        "can": {
            "stop": going and not c.is_stopping,
            "pause": pausable and not c.is_paused,
            "go_on": pausable and c.is_paused,
            "retry": retried,
            "retry_kinds": not going and c.can_retry,
        },
    }  # fmt: skip


def _retry(p: Progress, c: Controls) -> tuple[int, str]:
    """Return how many rows a retry sends, and the button text."""
    failed = c.retryable + p.not_sent
    if p.state == "running" or not c.can_retry or not (failed + p.pending):
        return 0, ""
    if p.open_jobs:
        return failed + p.pending, "Wait again"
    if p.pending:
        return failed + p.pending, f"Go on with {counted(failed + p.pending, p.unit)}"
    return failed, f"Retry {counted(failed, p.unit)}"


def _state(p: Progress, c: Controls) -> tuple[str, str]:
    """Return the state as one word, and as text for the user."""
    if p.state == "done":
        is_unanswered = p.failed and not p.done + p.cached
        return ("unanswered", "done, nothing answered") if is_unanswered else ("done", "done")
    if p.state != "running" and p.open_jobs:
        return ("submitted", "submitted, not waiting")
    if p.state == "cancelled":
        return ("stopped", "stopped")
    if p.state == "failed":
        return ("not sent", budget_stop_note(p)) if p.not_sent else ("failed", "ended early")
    if c.is_stopping:
        return ("stopping", "stopping")
    if c.is_paused:
        return ("paused", f"paused, {p.in_flight:,} in flight" if p.in_flight else "paused")
    if p.open_jobs:
        job = p.open_jobs[0].id if len(p.open_jobs) == 1 else ""
        return ("waiting", f"waiting for batch job {job}" if job else f"waiting for {len(p.open_jobs):,} batch jobs")
    if p.note.startswith("held by"):
        return ("held", p.note)
    if p.note:
        return ("waiting", p.note)
    if not c.is_planned and not p.in_flight:
        return ("planning", "planning")
    return ("sending", "sending")


def _projected_usd(p: Progress) -> float | None:
    """Project the run's total cost from the mean cost per ended row, or from the jobs' prices; None for unknown."""
    if p.jobs:
        prices = [job.price_usd for job in p.jobs]
        return None if None in prices else sum(price for price in prices if price is not None)
    ended = p.done + p.failed
    if p.cost_usd is None or (p.pending and ended < _LEAST_ANSWERED):
        return None
    return p.cost_usd + (p.cost_usd / ended * p.pending if p.pending else 0.0)
