"""Fields without a value in rows with other values: a question was refused, or one of the row's calls failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.ensemble import CellFailure, EnsembleResults
from pllm_notebook.execution import LiveRun
from pllm_notebook.failures import Failure
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.prompts import prompt_as_text

__all__ = ["cell_failures", "cell_records", "cell_texts"]

_PROMPT = 100


def cell_failures(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> Mapping[int, Sequence[CellFailure]]:
    """Return the fields without a value of those *rows* that have other values. Sends nothing."""
    if isinstance(run, RegisteredRun):
        ensemble = run.header.get("ensemble")
        assembled = ensemble is not None and ensemble.get("assembled") is not None and run.record is not None
        return run.read_answers().cells(rows) if assembled else {}
    ensemble_results = run.execution.decider
    if not isinstance(ensemble_results, EnsembleResults) or ensemble_results.plan.assembly is None:
        return {}
    calls = run.table.call_of_row
    found = {row: ensemble_results.decisions.get(calls[row]) for row in rows}
    return {row: decision.cells for row, decision in found.items() if decision is not None and decision.cells}


def cell_records(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return one record for each such field, as `rows.error_rows` does for failed rows."""
    made = []
    for row, cells in sorted(cell_failures(run, rows).items()):
        prompt = _beginning(run, row) if isinstance(run, LiveRun) else None
        for cell in cells:
            failure = cell.failure
            made.append(
                {
                    "position": row,
                    "kind": str(failure.kind),
                    "message": failure.message,
                    "attempts": failure.attempts,
                    "raw": failure.raw,
                    "cost_usd": failure.cost_usd,
                    "status": failure.status,
                    "field": cell.field,
                    "request_id": failure.request_id,
                    "prompt": prompt,
                }
            )
    return made


def cell_texts(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> dict[int, str]:
    """Return the text of the error column for such rows: field, kind and message of each failure."""
    return {
        row: "; ".join(f"{cell.field}: {cell.failure.kind}: {cell.failure.message}" for cell in cells)
        for row, cells in cell_failures(run, rows).items()
    }


def _beginning(run: LiveRun, row: int) -> str:
    (prompt,) = run.rows.prompts(range(row, row + 1))
    return "" if prompt is None or isinstance(prompt, Failure) else prompt_as_text(prompt)[:_PROMPT]
