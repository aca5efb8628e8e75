"""Sample rows in the page of an ended run, for `save_rows=True`: folded, with the quotations of each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import CountsModel, RunViewModel
from pllm_notebook.formatting import counted, escape_html, format_duration, format_usd
from pllm_notebook.notebook.row_checks import row_evidence

__all__ = ["saved_rows"]

_CELL = "text-align:start;vertical-align:top;padding:2px 12px 2px 0;max-width:320px;overflow-wrap:anywhere"
_HEAD = "text-align:start;vertical-align:bottom;padding:2px 12px 2px 0;min-width:7ch;overflow-wrap:anywhere"
_RIGHT = "text-align:right;vertical-align:top;padding:2px 12px 2px 0;white-space:nowrap"
# Readable on white and on black. If a viewer drops the style, <mark> is yellow by default.
_MARK = "background:rgba(76,141,214,0.3);color:inherit"
# Characters kept around the quotes in a cell's text.
_AROUND = 60


def saved_rows(model: RunViewModel | CountsModel, snapshot: Mapping[str, Any]) -> str:
    """Return the last sample rows as folded HTML, "" if they are not to be saved.

    Args:
        model: View model of the run.
        snapshot: Snapshot of the model.
    """
    pinned = snapshot["pinned"]
    rows = [*pinned, *(row for row in snapshot["sample"] if row not in pinned)] if model.saves_rows else []
    if not rows:
        return ""
    head, columns = snapshot["head"], snapshot["columns"]
    names = [head["unit"], *columns["input"], *columns["output"], "status"]
    names += ["confidence"] if columns["confidence"] else []
    top = "".join(f'<th style="{_HEAD}">{escape_html(name)}</th>' for name in [*names, "cost", "time"])
    lines = "".join(_line(row, snapshot, _evidence(model, row)) for row in rows)
    of = counted(head["total"], head["unit"])
    return (
        f"<details><summary>{len(rows):,} of {of}</summary>"
        f'<table style="border-collapse:collapse;margin:6px 0;font-size:12px"><thead><tr>{top}</tr></thead>'
        f"<tbody>{lines}</tbody></table></details>"
    )


def _evidence(model: RunViewModel | CountsModel, row: Mapping[str, Any]) -> Mapping[str, Sequence[Sequence[str]]]:
    """Map each column quoted by a row's answer to its text in pieces, with the fields that quote each."""
    run = model.run
    if run is None or row["message"]:
        return {}
    try:
        return dict(row_evidence(run, row["row"]))
    except PllmError:  # the reply is no longer in the cache
        return {}


def _line(row: Mapping[str, Any], snapshot: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    columns = snapshot["columns"]
    cells = [f'<td style="{_CELL};min-width:4ch">{escape_html(row["label"])}</td>']
    for name, value in zip(columns["input"], row["input"], strict=True):
        cells.append(_quoted(evidence[name]) if name in evidence else _cell(value))
    if row["message"]:
        cells.append(
            f'<td style="{_CELL}" colspan="{max(1, len(columns["output"]))}">{escape_html(row["message"])}</td>'
        )
    else:
        cells += map(_cell, row["values"])
    said = snapshot["marks"].get(str(row["row"]), "")
    words = [row["status"], *([said] if said else []), *(["SIMULATED"] if row["simulated"] else [])]
    if lost := [piece for piece, _ in evidence.get("not in the row", ())]:
        words.append(f"quoted, and not in the row: {'; '.join(lost)}")
    cells.append(_cell(" · ".join(words)))
    if columns["confidence"]:
        cells.append(_figure("" if row["confidence"] is None else f"{row['confidence']:.2f}"))
    cells.append(_figure("" if row["cost_usd"] is None else format_usd(row["cost_usd"])))
    cells.append(_figure("" if row["latency_s"] is None else format_duration(row["latency_s"])))
    return f"<tr>{''.join(cells)}</tr>"


def _quoted(pieces: Sequence[Sequence[str]]) -> str:
    """Return a cell as HTML with its quoted pieces marked, each with the fields that quote it."""
    shown = "".join(
        f'<mark style="{_MARK}">{escape_html(piece)}</mark><sup>{escape_html(fields)}</sup>'
        if fields
        else escape_html(piece if len(piece) <= 2 * _AROUND else f"{piece[:_AROUND]} … {piece[-_AROUND:]}")
        for piece, fields in pieces
    )
    return f'<td style="{_CELL}" dir="auto">{shown}</td>'


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _figure(f"{value:,}" if isinstance(value, int) else f"{value:,.6g}")
    return f'<td style="{_CELL}" dir="auto">{escape_html("–" if value is None else str(value))}</td>'


def _figure(text: str) -> str:
    return f'<td style="{_RIGHT}">{escape_html(text)}</td>'
