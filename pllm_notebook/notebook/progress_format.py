"""A run's progress as text, shared by the widget, the saved line and the terminal."""

from __future__ import annotations

from pllm_notebook.formatting import (
    budget_stop_note,
    counted,
    format_duration,
    format_usd,
    jobs_note,
    maybe_paid_note,
    short_number,
)
from pllm_notebook.types import Progress

__all__ = ["ended", "format_duration", "format_usd", "further", "model", "pace", "spent", "step"]

_SIGNS = {"running": "…", "done": "✓", "cancelled": "■ stopped:", "failed": "✗ ended early:"}


def step(progress: Progress) -> str:
    """Return a run's progress as one line: "Review: 12 / 200 rows · 3 failed · …"."""
    p = progress
    finished = p.total - p.pending
    parts = [f"{_named(p)}{finished:,} / {counted(p.total, p.unit)}", *_kinds(p)]
    if p.rows_per_s and not p.is_batch:
        parts.append(pace(p))
    if p.eta_s is not None:
        parts.append(f"{format_duration(p.eta_s)} left")
    parts += [*spent(p), model(p)]
    if p.note:
        parts.append(p.note)
    return " · ".join(parts)


def ended(progress: Progress) -> str:
    """Return the final line of a run, which a saved notebook keeps."""
    p = progress
    sign = "⚠" if p.state == "done" and p.failed else _SIGNS[p.state]
    answered = _answered(p)
    if p.not_sent and p.state != "cancelled":
        sign, answered = "■", budget_stop_note(p)
    if p.state != "running" and p.open_jobs:
        sign, answered = "…", f"submitted, {answered} so far"
    parts = [f"{sign} {_named(p)}{answered}", *_kinds(p, over=True), format_duration(p.elapsed_s)]
    parts += [*spent(p), model(p)]
    if p.note:
        parts.append(p.note)
    if p.state != "running" and p.open_jobs:
        parts.append(further(p))
    return " · ".join(parts)


def further(progress: Progress) -> str:
    """Describe the open batch jobs of an ended run and what to do next. "" if there are none."""
    jobs = progress.open_jobs
    if progress.state == "running" or not jobs:
        return ""
    them = "it" if len(jobs) == 1 else "them"
    return f"{jobs_note(jobs)} Running the cell again waits for {them}; pllm.jobs() can cancel {them}."


def _named(p: Progress) -> str:
    """Return the label at the start of a line, "" for a list of prompts."""
    return "" if p.unit == "prompt" else f"{p.label}: "


def _answered(p: Progress) -> str:
    count, rows = p.done + p.cached, counted(p.total, p.unit)
    return f"{rows} answered" if count == p.total else f"{count:,} of {rows} answered"


def model(progress: Progress) -> str:
    """Return the model's name, marked if its answers are simulated."""
    return f"{progress.model} SIMULATED" if progress.simulated else progress.model


def spent(progress: Progress) -> list[str]:
    """Return the usage: tokens (if any) and US dollars, with the limit if there is one."""
    p = progress
    tokens = p.input_tokens + p.output_tokens
    perhaps = maybe_paid_note(p.maybe_paid_requests, p.maybe_paid_usd)
    return [
        *([f"{short_number(tokens)} tokens"] if tokens else []),
        *_cached(p),
        _dollars(p),
        *([perhaps] if perhaps else []),
    ]


def pace(progress: Progress) -> str:
    """Return the rate of answered rows: "214 rows/s", "0.8 rows/s"."""
    rate, unit = progress.rows_per_s, progress.unit
    return f"{rate:,.0f} {unit}s/s" if rate >= 9.95 else f"{rate:.1f} {unit}s/s"


def _cached(p: Progress) -> list[str]:
    if not (p.cached_tokens and p.input_tokens):
        return []
    share = 100 * p.cached_tokens / p.input_tokens
    where = "this process's" if p.model.startswith("local:") else "the provider's"
    return [f"{'<1' if share < 1 else f'{share:.0f}'} % of input tokens from {where} cache"]


def _kinds(p: Progress, *, over: bool = False) -> list[str]:
    # Errors of a request file's lines are in its results file, where other processes can read them too.
    where = "the results file" if p.unit == "line" else "pllm.errors()"
    failed = f"failed ({where} says why)" if over else "failed"
    counts = [(p.cached, "from cache"), (p.failed, failed), (p.not_sent, "not sent"), (p.skipped, "skipped")]
    if over and p.not_sent and p.state != "cancelled":  # already mentioned
        counts = [(p.skipped, "skipped")]
    if over:
        counts.append((p.pending, "left"))
    return [f"{count:,} {word}" for count, word in counts if count]


def _dollars(p: Progress) -> str:
    ceiling = "" if p.budget_usd is None else f" of {format_usd(p.budget_usd)}"
    return f"{format_usd(p.cost_usd)}{ceiling}"
