"""A review as HTML: the decisions so far, for a notebook that is opened without its kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.failures import truncate
from pllm_notebook.formatting import counted, escape_html

__all__ = ["review_html"]

_MOST_ITEMS, _MOST_COLUMNS, _MOST_CHARS = 50, 4, 160
_CELL = "text-align:left;vertical-align:top;padding:2px 14px 2px 0;overflow-wrap:anywhere;max-width:360px"
# Column names do not wrap, even in a narrow table.
_HEAD = "text-align:left;vertical-align:bottom;padding:2px 14px 2px 0;white-space:nowrap"
_SHORT = f"{_CELL};min-width:8ch"
_WEAK = "opacity:0.72"


def review_html(by: str, total: int, decided: Sequence[Mapping[str, Any]], *, simulated: bool) -> str:
    """Return the counts, the newest decisions with their rows, and how to resume.

    It has no script or style sheet and uses the page's own colours. Long texts are cut.

    Args:
        by: Name of the reviewer.
        total: Number of answers to review.
        decided: See `Review.decisions`.
        simulated: Whether the answers are simulated.
    """
    labelled = sum(1 for one in decided if not one["skipped"])
    skipped = len(decided) - labelled
    badge = " <b>SIMULATED</b>" if simulated else ""
    counts = f"{labelled:,} of {counted(total, 'answer')} labelled{f', {skipped:,} skipped' if skipped else ''}"
    shown = decided[:_MOST_ITEMS]
    left = len(decided) - len(shown)
    said = f"and {left:,} earlier. " if left else ""
    said += "pllm.labels() has every label."
    if len(decided) < total:
        said += " The same call of review goes on where this stopped."
    return (
        f"<div style='font-size:13px'><b>Review by {escape_html(by)}</b>{badge}: {counts}</div>{_table(shown)}"
        f"<div style='font-size:12px;{_WEAK}'>{escape_html(said)}</div>"
    )


def _table(decided: Sequence[Mapping[str, Any]]) -> str:
    if not decided:
        return ""
    columns = list(dict.fromkeys(name for one in decided for name, _ in one["row"]))[:_MOST_COLUMNS]
    notes = any(one["note"] for one in decided)
    heads = ["row", *columns, "field", "answer", "label", *(["note"] if notes else [])]
    top = "".join(f"<th style='{_HEAD}'>{escape_html(name)}</th>" for name in heads)
    lines = "".join(_line(one, columns, notes=notes) for one in decided)
    return (
        f"<table style='border-collapse:collapse;margin:6px 0;font-size:12px'><thead><tr>{top}</tr></thead>"
        f"<tbody>{lines}</tbody></table>"
    )


def _line(one: Mapping[str, Any], columns: list[str], *, notes: bool) -> str:
    row = dict(one["row"])
    label = "skipped" if one["skipped"] else ("✓ " if one["right"] else "✗ ") + (one["label"] or "no value")
    texts = [(one["name"], _SHORT), *((row.get(name, ""), _CELL) for name in columns)]
    texts += [(one["field"], _SHORT), (one["proposed"] or "no value", _SHORT), (label, _SHORT)]
    texts += [(one["note"], _CELL)] if notes else []
    cells = "".join(
        f"<td style='{style}' dir='auto'>{escape_html(truncate(text, _MOST_CHARS))}</td>" for text, style in texts
    )
    return f"<tr>{cells}</tr>"
