"""A report's facts about a frame's runs, as plain data: question, models, rows, failures, cost, confidence.

They contain no text of rows: only the question, counts, and values that the type lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import STATUSES
from pllm_notebook.frames.dtypes import Kind
from pllm_notebook.frames.kept_calibrations import calibrations_of, identity_of_run
from pllm_notebook.frames.probability_views import row_confidence
from pllm_notebook.frames.provenance import Provenance, Source
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import CHANGED_BY_HAND, AnswerSide
from pllm_notebook.lab.corrected_groups import FieldAnswers
from pllm_notebook.lab.run_costs import costs_of
from pllm_notebook.prices import is_deprecated

__all__ = [
    "agreement_facts",
    "answer_facts",
    "bounds_in",
    "confidence_facts",
    "header_of",
    "question_facts",
    "row_facts",
    "run_facts",
    "shown_rows",
]

Numbers = np.ndarray[Any, np.dtype[Any]]

# Options that contain text of rows in records of earlier versions: shown only if rows are requested.
_ROWS_INSIDE = {"examples", "validation_context"}
_MOST_VALUES = 30


def header_of(source: Source) -> Mapping[str, Any]:
    """Return a run's entry in the registry.

    Raises:
        PllmError: If it has none.
    """
    run = source.run if isinstance(source.run, RegisteredRun) else RegisteredRun.find(source.run.id)
    if run is None:
        raise PllmError(f"The run {source.run.id!r} is not in the registry of runs, which a report is made of.")
    return run.header


def question_facts(header: Mapping[str, Any], *, with_rows: bool) -> dict[str, Any]:
    """Return the facts of the question."""
    given = header["options"]
    options = {
        name: value if with_rows or name not in _ROWS_INSIDE else "not shown: it holds text of rows"
        for name, value in given.items()
        if name not in ("system", "model")
    }
    return {
        "prompt": header["prompt"],
        "system": header["system"],
        "columns": list(header["asked"]),
        "fields": list(header["fields"]),
        "type": header["label"],
        "schema": header["schema"],
        "source": header["source"],
        "options": options,
        "examples": header.get("examples"),
    }


def run_facts(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return which models answered, when, and the cost."""
    began = datetime.fromtimestamp(header["started_at"], UTC)
    model = str(header["model"])
    names = ("duration_s", "state", "simulated", "total", "answered", "cached", "failed", "not_sent", "skipped",
             "cost_usd", "input_tokens", "output_tokens")  # fmt: skip
    return {
        "id": header["id"],
        "model": model,
        "served": list(header["served"]),
        "retiring": is_deprecated(model, header["served"]),
        "began": began.isoformat(timespec="seconds"),
        "from": header["origin"],
        **{name: header[name] for name in names},
    }


def row_facts(table: Table, side: AnswerSide, found: Provenance) -> dict[str, Any]:
    """Return the counts of rows by status, and their cost when they were paid for."""
    # For a frame with a line for each item, count rows: the frame does not show which of them were equal.
    lines = np.sort(np.unique(side.content, return_index=True)[1]) if side.source.explode else np.arange(table.total)
    status = side.status[lines]
    counts = {word: int((status == at).sum()) for at, word in enumerate(STATUSES)}
    kinds = Counter(side.failures[line] for line in lines.tolist() if side.failures[line])
    costs = costs_of(side, lines)
    asked = status >= 0
    return {
        "total": len(lines),
        "items": table.total if side.source.explode else None,
        "of_a_run": int(asked.sum()),
        "distinct": len(np.unique(side.content[lines][asked])),
        "corrected": int((status == CHANGED_BY_HAND).sum()),
        "status": {word: count for word, count in counts.items() if count},
        "failures": dict(kinds.most_common()),
        "a_row": costs._asdict(),
        "runs": len(found.sources),
    }


def agreement_facts(found: Provenance, total: int) -> dict[str, dict[str, float]]:
    """Return the agreement of the samples by field. {} if rows were asked once."""
    shares: dict[str, Numbers] = {}
    for at, source in enumerate(found.sources):
        here = found.source == at
        for name, known in () if source.record is None else source.record.agreement.items():
            shares.setdefault(name, np.full(total, np.nan))[here] = known[found.row[here]]
    return {
        name: {"mean": float(np.nanmean(share)), "unanimous": float(np.mean(share[~np.isnan(share)] == 1))}
        for name, share in shares.items()
        if not np.isnan(share).all()
    }


def confidence_facts(table: Table, found: Provenance) -> dict[str, dict[str, Any]]:
    """Return the confidence of each field's values and its stored calibrations. {} without any."""
    columns: Mapping[str, Numbers] = {}
    with suppress(PllmError):
        columns = row_confidence(table)
    kept = calibrations_of(identity_of_run(found.sources[0].run))
    made: dict[str, dict[str, Any]] = {}
    for name, p in columns.items():
        known = p[~np.isnan(p)]
        if len(known):
            made[name] = {
                "rows": len(known),
                "mean": float(known.mean()),
                "median": float(np.median(known)),
                "below_0.9": float(np.mean(known < 0.9)),
                "calibrations": [
                    {"name": one.name, "method": one.calibrator.method, "labels": one.labels, "source": one.source}
                    for one in kept
                    if name.endswith(one.field)
                ],
            }
    return made


def answer_facts(answers: FieldAnswers) -> dict[str, Any]:
    """Return the distribution of a field's answers: values that the type lists, a mean, or counts for text."""
    given = [value for value in answers.answers if value is not None]
    made: dict[str, Any] = {"field": answers.field, "kind": str(answers.column.kind), "answered": len(given)}
    if answers.is_listed:
        counts = Counter(map(str, given))
        made["values"] = dict(counts.most_common(_MOST_VALUES))
    elif answers.is_number:
        numbers = np.array([float(value) for value in given if isinstance(value, (int, float))])
        if len(numbers):
            made |= {"mean": float(numbers.mean()), "smallest": float(numbers.min()), "largest": float(numbers.max())}
    elif answers.column.kind is Kind.TEXT and given:
        made["characters"] = float(np.mean([len(str(value)) for value in given]))
    return made


def bounds_in(schema: Any, field: str) -> tuple[float, float] | None:
    """Return the smallest and largest number that a schema allows for a field. None unless it states both."""
    properties: Any = schema.get("properties") if isinstance(schema, Mapping) else None
    part = properties.get(field) if isinstance(properties, Mapping) else None
    low, high = (part.get(name) if isinstance(part, Mapping) else None for name in ("minimum", "maximum"))
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return float(low), float(high)
    return None


def shown_rows(table: Table, side: AnswerSide, count: int) -> dict[str, Any]:
    """Return the first rows with their answers, as text."""
    data = table.column_data(side.source.asked)
    fields = list(side.columns)
    lines: list[Sequence[str]] = []
    for row in range(min(count, table.total)):
        cells = ["" if gaps[row] else str(own[row]) for own, gaps in zip(data.values, data.missing, strict=True)]
        said = ["" if side.values[field][row] is None else str(side.values[field][row]) for field in fields]
        lines.append([str(table.label(row)), *cells, *said])
    return {"head": ["row", *data.names, *fields], "lines": lines}
