"""The output of a run in a saved notebook: a line of text during the run, and a page of plain HTML at the end.

The page has no scripts or style sheets, so every notebook viewer shows it, in the viewer's own colours. All text from
data or a provider is escaped here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.execution import retry_advice
from pllm_notebook.formatting import (
    counted,
    escape_html,
    format_usd_or,
    strip_control_chars,
)
from pllm_notebook.notebook import progress_format
from pllm_notebook.types import Progress

__all__ = ["ended_page", "running_words", "with_lines"]

_FONT = (
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;"
    "font-variant-numeric:tabular-nums;color:var(--jp-ui-font-color1,inherit)"
)
_WEAK = "opacity:0.72"
# Readable on white and on black.
_BAR, _MISSING = "#4c8dd6", "#9a9a9a"
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"
_WIDTH, _HEIGHT, _TRACK, _WIDEST = 132, 40, 90, 320


def running_words(progress: Progress, started_at: float) -> dict[str, Any]:
    """Return the bundle for a notebook that is saved during the run."""
    p = progress
    since = time.strftime("%H:%M", time.localtime(started_at))
    what = p.label if p.unit == "prompt" else f"{p.label}: {counted(p.total, p.unit)}"
    text = f"{what} for {progress_format.model(p)}, running since {since}."
    if p.is_batch:  # the jobs continue without this kernel
        hint = "pllm.jobs() shows its jobs; run the cell again for the answers."
    else:
        hint = "pllm.runs()[-1] shows it; interrupt the kernel to stop."
    return {
        "text/plain": strip_control_chars(f"{text} {hint}"),
        "text/html": f'<div style="{_FONT}">{escape_html(text)} <span style="{_WEAK}">{escape_html(hint)}</span></div>',
    }


def ended_page(snapshot: Mapping[str, Any], line: str, note: str, rows: str = "") -> dict[str, Any]:
    """Return the bundle for a run that has ended.

    Args:
        snapshot: Snapshot of the run's view model.
        line: The final line of the run.
        note: A sentence below it, "" for none.
        rows: Escaped HTML of the sample rows (see `saved_rows`), "" if they are not saved.
    """
    parts = [f"<div>{escape_html(line)}</div>"]
    if note:
        parts.append(f"<div>{escape_html(note)}</div>")
    parts += [_jobs(snapshot["jobs"]), _failures(snapshot["failures"], snapshot["run"]), _charts(snapshot["fields"])]
    parts.append(rows)
    return {
        "text/plain": strip_control_chars(f"{line} {note}").rstrip(),
        "text/html": f'<div style="{_FONT}">{"".join(parts)}</div>',
    }


def with_lines(bundle: Mapping[str, Any], lines: Sequence[str]) -> dict[str, Any]:
    """Return a bundle with additional lines below, in a weaker colour."""
    weak = "".join(f"<div>{escape_html(line)}</div>" for line in lines if line)
    return {
        "text/plain": "\n".join([bundle["text/plain"], *map(strip_control_chars, filter(None, lines))]),
        "text/html": f'{bundle["text/html"]}<div style="{_FONT};font-size:12px;{_WEAK}">{weak}</div>',
    }


def _jobs(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Return the batch jobs as a table."""
    if not jobs:
        return ""
    lines = [
        [
            job["job"], job["state"], f"{job['requests']:,}", _counted(job["answered"]), _counted(job["failed"]),
            format_usd_or(job["price_usd"], "unknown"), job["message"],
        ]
        for job in jobs
    ]  # fmt: skip
    return _table(["batch job", "state", "requests", "answered", "failed", "price", ""], lines)


def _counted(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th style="{_CELL}">{escape_html(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape_html(cell)}</td>' for cell in line) + "</tr>" for line in lines
    )
    return (
        f'<table style="border-collapse:collapse;margin:6px 0;font-size:12px"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _failures(groups: Sequence[Mapping[str, Any]], run: str) -> str:
    if not groups:
        return ""
    lines = "".join(
        f'<tr><td style="{_CELL};text-align:right">{group["count"]:,}</td>'
        f'<td style="{_CELL};white-space:nowrap">{escape_html(group["kind"])}</td>'
        f'<td style="{_CELL}">{escape_html(group["message"])} <span style="{_WEAK}">{_advice(group, run)}</span></td>'
        f"</tr>"
        for group in groups
    )
    return f'<table style="border-collapse:collapse;margin:6px 0;font-size:12px"><tbody>{lines}</tbody></table>'


def _advice(group: Mapping[str, Any], run: str) -> str:
    named = f"pllm.run({run!r})" if run else ""
    return escape_html(retry_advice(group["kind"], group["count"], group["price_usd"], named))


def _charts(fields: Sequence[Mapping[str, Any]]) -> str:
    drawn = "".join(map(_chart, fields))
    return f'<div style="margin:8px 0 2px">{drawn}</div>' if drawn else ""


def _chart(field: Mapping[str, Any]) -> str:
    """Return the chart of one field, with its name above it: categories by name, or a histogram and its range."""
    name = field["name"] + (f" ({field['of']})" if field["of"] else "")
    drawn = _categories(field) if field["kind"] == "categories" or not field["bars"] else _histogram(field, name)
    if not drawn:
        return ""
    return (
        f'<div style="display:inline-block;vertical-align:top;margin:0 22px 8px 0;max-width:{_WIDEST}px">'
        f'<div style="font-size:12px;font-weight:600">{escape_html(name)}</div>{drawn}</div>'
    )


def _categories(field: Mapping[str, Any]) -> str:
    """Return a line for each category, with its name, bar and share."""
    bars = [(str(bar["label"]), int(bar["count"]), _BAR) for bar in field["bars"]]
    bars += [("others", int(field["more"]), _BAR)] if field.get("more") else []
    bars += [("missing", int(field["missing"]), _MISSING)] if field["missing"] else []
    most = max((count for _, count, _ in bars), default=0)
    if not most:
        return ""
    cell = "border:0;background:none;text-align:left;padding:0 8px 0 0;font-size:12px;line-height:16px"
    lines = "".join(
        f'<tr style="background:none">'
        f'<td style="{cell};max-width:150px;overflow-wrap:anywhere">{escape_html(label)}</td>'
        f'<td style="{cell}"><svg width="{_TRACK}" height="9" role="img">'
        f"<title>{escape_html(f'{label}: {count:,}')}</title>"
        f'<rect width="{max(1.0, count / most * _TRACK) if count else 0:.1f}" height="9" fill="{colour}"/></svg></td>'
        f'<td style="{cell};text-align:right">{_percent(count, field["counted"])}</td></tr>'
        for label, count, colour in bars
    )
    return f'<table style="border-collapse:collapse;margin:2px 0"><tbody>{lines}</tbody></table>'


def _histogram(field: Mapping[str, Any], name: str) -> str:
    bars = [(str(bar["label"]), int(bar["count"])) for bar in field["bars"]]
    most, width = max(count for _, count in bars) or 1, _WIDTH / len(bars)
    shapes = []
    for at, (label, count) in enumerate(bars):
        height = max(1.0, count / most * (_HEIGHT - 2)) if count else 0.0
        shapes.append(
            f'<rect x="{at * width + 0.75:.1f}" y="{_HEIGHT - height:.1f}" width="{max(1.0, width - 1.5):.1f}" '
            f'height="{height:.1f}" fill="{_BAR}"><title>{escape_html(f"{label}: {count:,}")}</title></rect>'
        )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f"<title>{escape_html(f'{name}: {_summary(field)}')}</title>{''.join(shapes)}"
        f'<line x1="0" y1="{_HEIGHT - 0.5}" x2="{_WIDTH}" y2="{_HEIGHT - 0.5}" stroke="{_MISSING}"/></svg>'
        f'<div style="font-size:11px;{_WEAK}">{escape_html(_summary(field))}</div>'
    )


def _summary(field: Mapping[str, Any]) -> str:
    """Return the range and mean of numbers, and the share of missing ones."""
    counted, missing = field["counted"], field["missing"]
    gap = f" · {_percent(missing, counted)} missing" if missing else ""
    if field["low"] == field["high"]:
        return f"{_number(field['low'])}{gap}"
    mean = "" if field["mean"] is None else f", mean {_number(field['mean'])}"
    return f"{_number(field['low'])} to {_number(field['high'])}{mean}{gap}"


def _percent(count: int, whole: int) -> str:
    share = 100 * count / max(1, whole)
    return f"{share:.0f} %" if share >= 1 or not count else "<1 %"


def _number(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) or abs(number) >= 1_000 else f"{number:.3g}"
