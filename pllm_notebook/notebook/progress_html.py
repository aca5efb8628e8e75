"""The widget's HTML. Colours are the page's own, so that it fits a dark theme too; nothing moves.

Everything that comes from data or a provider is escaped here.
"""

from __future__ import annotations

from pllm_notebook.formatting import escape_html
from pllm_notebook.notebook import progress_format
from pllm_notebook.types import Progress

__all__ = ["HINT", "bar", "counts", "details"]

# JupyterLab's own palette first, then fixed colours that are readable on light and dark alike.
_ANSWERED = "var(--jp-brand-color1, #2196f3)"
_CACHED = "var(--jp-brand-color2, #64b5f6)"
_FAILED = "var(--jp-error-color1, #d32f2f)"
_SKIPPED = "rgba(128,128,128,0.45)"
_TRACK = "rgba(128,128,128,0.2)"
_TEXT = (
    "font:var(--jp-ui-font-size1,13px)/26px var(--jp-ui-font-family,system-ui,sans-serif);"
    "font-variant-numeric:tabular-nums;white-space:nowrap;color:var(--jp-ui-font-color1,inherit)"
)
_BADGE = (
    "font-size:10px;font-weight:600;letter-spacing:0.06em;padding:1px 6px;border-radius:8px;margin-left:6px;"
    "color:#7a4b00;background:#ffd98a"
)

HINT = f"<div style='{_TEXT};font-size:12px;opacity:0.6;padding-left:8px'>or interrupt the kernel</div>"
"""The hint beside the Stop button: an interrupt works in every notebook."""


def bar(progress: Progress) -> str:
    """Render the bar: answered, cached, failed and skipped rows side by side, as shares of the total."""
    p = progress
    parts = [(p.done, _ANSWERED), (p.cached, _CACHED), (p.failed, _FAILED), (p.skipped, _SKIPPED)]
    inner = "".join(
        # A single failed row among a million stays visible.
        f"<div style='flex:none;min-width:2px;width:{100 * count / max(1, p.total):.2f}%;background:{colour}'></div>"
        for count, colour in parts
        if count
    )
    return (
        f"<div style='display:flex;width:220px;height:10px;margin:8px 0;border-radius:5px;overflow:hidden;"
        f"background:{_TRACK}'>{inner}</div>"
    )


def counts(progress: Progress) -> str:
    """Render the first line: rows, pace and time left, each of a fixed width."""
    p = progress
    total = f"{p.total:,}"
    finished = f"{p.total - p.pending:,}"
    left = "" if p.eta_s is None else f"{progress_format.format_duration(p.eta_s)} left"
    return (
        f"<div style='{_TEXT};padding-left:12px'>"
        f"{_cell(finished, len(total), right=True, weight=600)} / {total} rows"
        f"{_cell(progress_format.pace(p) if p.rows_per_s else '', 12, right=True)}"
        f"{_cell(left, 14, right=True)}</div>"
    )


def details(progress: Progress) -> str:
    """Render the second line: question, model, counts by status, cost, and any note."""
    p = progress
    badge = f"<span style='{_BADGE}'>SIMULATED</span>" if p.simulated else ""
    kinds = [(p.cached, "from cache"), (p.skipped, "skipped")]
    parts = [f"{escape_html(p.label)} · {escape_html(p.model)}{badge}"]
    parts += [f"{count:,} {word}" for count, word in kinds if count]
    if p.failed:
        parts.append(f"<span style='color:{_FAILED}'>{p.failed:,} failed</span>")
    parts += [escape_html(part) for part in progress_format.spent(p)]
    if p.note:
        parts.append(f"<em>{escape_html(p.note)}</em>")
    return (
        f"<div style='{_TEXT};line-height:18px;font-size:12px;opacity:0.8;overflow:hidden;text-overflow:ellipsis'>"
        f"{' · '.join(parts)}</div>"
    )


def _cell(text: str, width: int, *, right: bool = False, weight: int = 400) -> str:
    align = "right" if right else "left"
    return (
        f"<span style='display:inline-block;min-width:{width}ch;text-align:{align};font-weight:{weight}'>"
        f"{escape_html(text)}</span>"
    )
