"""The summary of a run in a notebook, for `Run`, `out.llm` and `df.llm`: counts, question, and what to do next."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.execution.row_source import Rows
from pllm_notebook.execution.run_state import RunState
from pllm_notebook.formatting import (
    budget_stop_note,
    counted,
    escape_html,
    format_usd,
    maybe_paid_note,
    strip_control_chars,
)
from pllm_notebook.types import Progress

__all__ = ["closing_lines", "live_lines", "progress_of", "recorded_lines", "shown"]

_PROMPT = 200


def progress_of(execution: RunState, rows: Rows) -> Progress:
    """Return the current counts."""
    total, options = rows.total, execution.specs[0].options
    queues, note, counts = execution.queues, execution.note, execution.counts
    spent, in_flight = queues.spent, queues.in_flight
    is_batch = options.mode == "batch"
    elapsed_s, eta_s = counts.elapsed_s(time.monotonic()), counts.eta_s(total)
    return Progress(
        label=rows.label,
        model=execution.model,
        simulated=execution.simulated,
        total=total,
        done=counts.done,
        cached=counts.cached,
        failed=counts.failed,
        not_sent=counts.not_sent,
        skipped=counts.skipped,
        in_flight=in_flight,
        elapsed_s=elapsed_s,
        rows_per_s=counts.rows_per_s,
        eta_s=eta_s if execution.state == "running" else None,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        cached_tokens=spent.cached_tokens,
        cost_usd=spent.cost_usd,
        budget_usd=options.max_cost_usd,
        maybe_paid_requests=spent.perhaps_requests,
        maybe_paid_usd=spent.perhaps_usd,
        reserved_usd=execution.budget.reserved_usd,
        note=note,
        state=execution.state,
        unit=getattr(rows, "unit", "row"),
        is_batch=is_batch,
        jobs=queues.jobs if is_batch else (),
        joined_usd=spent.joined_usd,
    )


def recorded_lines(header: Mapping[str, Any], state: str) -> tuple[str, str, str]:
    """Summarize a recorded run: its counts, its question, how to continue.

    Args:
        header: The run's header in the registry.
        state: The run's state in one word.
    """
    h = header
    answered = h["answered"] + h["cached"]
    least = "at least " if state == "interrupted" else ""
    unsent = f", {h['not_sent']:,} not sent" if h["not_sent"] else ""
    began = time.strftime("%Y-%m-%d %H:%M", time.gmtime(h["started_at"]))
    counts = (
        f"{state}: {least}{answered:,} of {counted(h['total'], 'row')} answered ({h['cached']:,} from cache, "
        f"{h['failed']:,} failed{unsent}), {least}{format_usd(h['cost_usd'])}, {h['model']}, {began} UTC"
    )
    run = f"pllm.run({h['id']!r})"
    further = "Run its cell once more to go on: what is answered costs nothing." if state == "interrupted" else ""
    return (
        strip_control_chars(counts),
        _question(h["prompt"], h["label"], h["origin"]),
        f"{run}.to_frame() has its answers, .errors what failed. {further}".rstrip(),
    )


def live_lines(run: str, progress: Progress, prompt: str | None, origin: str) -> tuple[str, str, str]:
    """Summarize a run of this kernel: its counts, its question, how to continue."""
    p = progress
    unsent = f", {p.not_sent:,} not sent" if p.not_sent else ""
    skipped = f", {p.skipped:,} skipped" if p.skipped else ""
    perhaps = f", {maybe_paid_note(p.maybe_paid_requests, p.maybe_paid_usd)}" if p.maybe_paid_requests else ""
    counts = (
        f"{p.state}: {p.done + p.cached:,} of {counted(p.total, p.unit)} answered ({p.cached:,} from cache, "
        f"{p.failed:,} failed{skipped}{unsent}), {format_usd(p.cost_usd)}{perhaps}, {p.model}"
    )
    on = "result() waits for it, cancel() stops it." if p.state == "running" else "retry() sends what failed again."
    return (
        strip_control_chars(counts),
        _question(prompt, p.label, origin),
        f"to_frame() has its answers, .errors what failed; {on} pllm.run({run!r}) opens it again.",
    )


def shown(title: str, lines: Sequence[str], *, simulated: bool) -> str:
    """Return lines as escaped HTML, marked if a simulator answered."""
    mark = " <b>SIMULATED</b>" if simulated else ""
    body = "<br>".join(escape_html(line) for line in lines if line)
    return f"<div style='text-align:left'><b>{escape_html(title)}</b>{mark}<br>{body}</div>"


def _question(prompt: str | None, label: str, origin: str) -> str:
    asked = prompt or label
    asked = asked if len(asked) <= _PROMPT else f"{asked[: _PROMPT - 1]}…"
    return strip_control_chars(f"asked: {asked}{f'; from {origin}' if origin else ''}")


def closing_lines(progress: Progress, failed: int, unsaved: int, *, display_stays: bool) -> list[str]:
    """Return the warnings for the caller when a run has ended.

    Args:
        progress: The counts at the end.
        failed: Number of failed rows.
        unsaved: Number of rows whose answer the cache could not keep.
        display_stays: Whether the display's last line stays in view; it already says how many rows failed or were not
            sent.
    """
    lines = []
    if progress.skipped == progress.total > 0:
        lines.append(
            f"Every row was skipped ({progress.total:,} of {progress.total:,}): each lacks a value that its prompt "
            f"would have. Look at the columns, or give na='send'. Nothing was sent."
        )
    if progress.not_sent and not display_stays:
        lines.append(f"{budget_stop_note(progress)}. Raise it and run the cell again to go on.")
    elif failed and not display_stays:
        lines.append(f"{failed:,} of {progress.total:,} rows failed and have no answer; .llm.errors says why.")
    if unsaved:
        keep = "The cache cannot be written, so these answers are in this result alone: keep it."
        lines.append(f"incomplete: {unsaved:,} unsaved. {keep}")
    return lines
