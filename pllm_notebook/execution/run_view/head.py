"""The first line of a view: one word for the run's state, its counts, its pace and its money."""

from __future__ import annotations

from typing import Any

from pllm_notebook.execution.run import Run
from pllm_notebook.formatting import budget_stop_note
from pllm_notebook.types import Progress

__all__ = ["head_of"]

# Rows that a projection must rest on, and that a mean needs.
_LEAST_ANSWERED = 5


def head_of(run: Run, progress: Progress) -> dict[str, Any]:
    """Return the head of the run's view (see `RunViewModel`)."""
    p, execution = progress, run.execution
    state, says = _state(run, p)
    going = p.state == "running"
    retryable = 0 if going or execution.broken else p.failed + p.not_sent
    return {
        "label": p.label, "model": p.model, "simulated": p.simulated, "unit": "row",
        "state": state, "says": says, "ended": not going,
        "total": p.total, "done": p.done, "cached": p.cached, "failed": p.failed, "not_sent": p.not_sent,
        "skipped": p.skipped, "pending": p.pending, "in_flight": p.in_flight,
        "rows_per_s": round(p.rows_per_s, 2), "eta_s": None if state == "paused" else p.eta_s,
        "elapsed_s": round(p.elapsed_s, 1), "started_at": run.started_at,
        "cost_usd": p.cost_usd, "projected_usd": _projected_usd(p), "budget_usd": p.budget_usd,
        "maybe_paid_requests": p.maybe_paid_requests, "maybe_paid_usd": p.maybe_paid_usd,
        "reserved_usd": p.reserved_usd, "tokens": p.input_tokens + p.output_tokens,
        "input_tokens": p.input_tokens, "cached_tokens": p.cached_tokens, "note": p.note,
        "can": {
            "stop": going and not execution.is_stopping,
            "pause": going and not execution.is_stopping and not execution.paused,
            "go_on": going and not execution.is_stopping and execution.paused,
            "retry": retryable,
        },
    }  # fmt: skip


def _state(run: Run, p: Progress) -> tuple[str, str]:
    """Return the state in one word, and in the words that a person reads."""
    execution = run.execution
    if p.state == "done":
        return ("done", "done")
    if p.state == "cancelled":
        return ("stopped", "stopped")
    if p.state == "failed":
        return ("not sent", budget_stop_note(p)) if p.not_sent else ("failed", "ended early")
    if execution.is_stopping:
        return ("stopping", "stopping")
    if execution.paused:
        return ("paused", f"paused, {p.in_flight:,} in flight" if p.in_flight else "paused")
    if p.note.startswith("held by"):
        return ("held", p.note)
    if p.note:
        return ("waiting", p.note)
    if not execution.results.planned and not p.in_flight:
        return ("planning", "planning")
    return ("sending", "sending")


def _projected_usd(p: Progress) -> float | None:
    """Return what the run will have cost at its end, None for unknown: what is left costs what answers have cost."""
    ended = p.done + p.failed
    if p.cost_usd is None or (p.pending and ended < _LEAST_ANSWERED):
        return None
    return p.cost_usd + (p.cost_usd / ended * p.pending if p.pending else 0.0)
