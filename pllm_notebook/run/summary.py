"""What a notebook shows of a run, of `out.llm` and of `df.llm`: three lines that say what it is and how to go on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.records import Progress
from pllm_notebook.shown import in_html, without_controls
from pllm_notebook.wording import counted, money, perhaps_paid

__all__ = ["live_lines", "recorded_lines", "shown"]

_PROMPT = 200


def recorded_lines(header: Mapping[str, Any], state: str) -> tuple[str, str, str]:
    """Return what a recorded run is: its counts, its question, how to go on."""
    h = header
    answered = h["answered"] + h["cached"]
    least = "at least " if state == "interrupted" else ""
    unsent = f", {h['not_sent']:,} not sent" if h["not_sent"] else ""
    began = time.strftime("%Y-%m-%d %H:%M", time.gmtime(h["started_at"]))
    counts = (
        f"{state}: {least}{answered:,} of {counted(h['total'], 'row')} answered ({h['cached']:,} from cache, "
        f"{h['failed']:,} failed{unsent}), {least}{money(h['cost_usd'])}, {h['model']}, {began} UTC"
    )
    run = f"pllm.run({h['id']!r})"
    further = "Run its cell once more to go on: what is answered costs nothing." if state == "interrupted" else ""
    return (
        without_controls(counts),
        _question(h["prompt"], h["label"], h["origin"]),
        f"{run}.to_frame() has its answers, .errors what failed. {further}".rstrip(),
    )


def live_lines(run: str, progress: Progress, prompt: str | None, origin: str) -> tuple[str, str, str]:
    """Return what a run of this kernel is: its counts, its question, how to go on."""
    p = progress
    unsent = f", {p.not_sent:,} not sent" if p.not_sent else ""
    perhaps = f", {perhaps_paid(p.perhaps_requests, p.perhaps_usd)}" if p.perhaps_requests else ""
    counts = (
        f"{p.state}: {p.done + p.cached:,} of {counted(p.total, 'row')} answered ({p.cached:,} from cache, "
        f"{p.failed:,} failed{unsent}), {money(p.cost_usd)}{perhaps}, {p.model}"
    )
    on = "result() waits for it, cancel() stops it." if p.state == "running" else "retry() sends what failed again."
    return (
        without_controls(counts),
        _question(prompt, p.label, origin),
        f"to_frame() has its answers, .errors what failed; {on} pllm.run({run!r}) opens it again.",
    )


def shown(title: str, lines: Sequence[str], *, simulated: bool) -> str:
    """Return lines as a page has them, escaped; marked where a simulator answered."""
    mark = " <b>SIMULATED</b>" if simulated else ""
    body = "<br>".join(in_html(line) for line in lines if line)
    return f"<div style='text-align:left'><b>{in_html(title)}</b>{mark}<br>{body}</div>"


def _question(prompt: str | None, label: str, origin: str) -> str:
    asked = prompt or label
    asked = asked if len(asked) <= _PROMPT else f"{asked[: _PROMPT - 1]}…"
    return without_controls(f"asked: {asked}{f'; from {origin}' if origin else ''}")
