"""The reports of `.llm` on the rows of a frame: status, failures, usage, samples and evaluation, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from pllm_notebook.ensemble import EnsembleResults
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import (
    STATUSES,
    Explanation,
    LiveRun,
    Run,
    decoded_body,
    handle_of,
    position_of,
    retry_price,
)
from pllm_notebook.failures import Failure
from pllm_notebook.frames.cell_failures import cell_records
from pllm_notebook.frames.evaluation import Evaluation, EvaluationInput, evaluate
from pllm_notebook.frames.evidence_views import evidence_lines
from pllm_notebook.frames.provenance import Provenance, Source, named_run, provenance_of
from pllm_notebook.frames.recorded_answers import columns_in
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.rows import ERROR_COLUMNS, USAGE_COLUMNS, error_rows, prompts_of, usage_rows
from pllm_notebook.frames.samples import sample_frame, sampled_by, samples_of
from pllm_notebook.frames.table import FrameLibrary, Table
from pllm_notebook.templates import Template

__all__ = [
    "STATUS_WORDS",
    "agreement",
    "errors",
    "evaluation",
    "explain",
    "run_of",
    "samples",
    "status",
    "status_counts",
    "usage",
]

STATUS_WORDS = (*STATUSES, "changed")


def run_of(table: Table) -> Run | RecordedRun:
    """Return the run that made a frame (see `df.llm.run`)."""
    source = named_run(table)
    if source is not None and not table.mixes_runs:
        return _handle(source.run)
    try:
        found = provenance_of(table).sources
    except PllmError:
        if source is None:
            raise
        found = [source]
    if len(found) > 1:
        ids = ", ".join(repr(source.run.id) for source in found)
        raise PllmError(f"Several runs made the rows of this frame, {ids}: pllm.run('id') opens one.")
    return _handle(found[0].run)


def status(table: Table) -> Any:
    """Return the status of each row (see `df.llm.status`)."""
    return table.frame_library.category_column("status", _status_codes(table).tolist(), STATUS_WORDS, table)


def _status_codes(table: Table) -> np.ndarray[Any, np.dtype[np.int8]]:
    found = provenance_of(table)
    codes = np.full(table.total, -1, dtype=np.int8)
    for at, source in enumerate(found.sources):
        here = found.source == at
        assert source.record is not None  # a row was found in it
        codes[here] = source.statuses[found.row[here]]
    codes[found.changed] = len(STATUSES)
    return codes


def status_counts(table: Table) -> list[tuple[str, int]]:
    """Return each status with its number of rows, the most common first."""
    codes = _status_codes(table)
    counts = np.bincount(codes[codes >= 0], minlength=len(STATUS_WORDS)).tolist()
    return sorted(zip(STATUS_WORDS, counts, strict=True), key=lambda pair: -pair[1])


def errors(table: Table) -> Any:
    """Return the failed rows, one per line (see `df.llm.errors`)."""
    found = provenance_of(table)
    records: list[dict[str, Any]] = []
    for position, source, row in _failed(found):
        record = next(error_rows(source.run, [row]), None) if isinstance(source.run, LiveRun) else _kept(source, row)
        if record is not None:
            record["position"] = position
            if isinstance(source.run, RegisteredRun):
                record["prompt"] = _prompt(table, source, position)[:100]
            records.append(record | {"label": table.label(position)})
    records += _failed_cells(table, found)
    records.sort(key=lambda record: record["position"])
    library = table.frame_library
    price = _retry_usd(found.sources[0].run) if len(found.sources) == 1 else None
    return library.with_error_head(library.report(ERROR_COLUMNS, records), price)


def _retry_usd(run: LiveRun | RegisteredRun) -> float | None:
    """Return the cost of retrying one row in US dollars, None if unknown."""
    if isinstance(run, RegisteredRun):
        return run.retry_usd
    progress = run.progress()
    return retry_price(progress.cost_usd, progress.done, 1)


def _failed_cells(table: Table, found: Provenance) -> Iterator[dict[str, Any]]:
    """Yield a record for each field without a value in rows that have other values."""
    for source in found.sources:
        place_of = {row: position for position, one, row in found.places() if one is source}
        for record in cell_records(source.run, list(place_of)):
            position = place_of[record["position"]]
            if record["prompt"] is None:
                record["prompt"] = _prompt(table, source, position)[:100]
            yield record | {"position": position, "label": table.label(position)}


def usage(table: Table) -> Any:
    """Return tokens, US dollars and seconds for each row (see `df.llm.usage`)."""
    lines: list[Any] = [{}] * table.total
    found = provenance_of(table)
    for at, source in enumerate(found.sources):
        here = np.flatnonzero(found.source == at)
        rows = found.row[here].tolist()
        if isinstance(source.run, LiveRun):
            known: Any = dict(zip(rows, usage_rows(source.run, rows), strict=True))
        else:
            known = source.run.usage_of(rows)
        for position, row in zip(here.tolist(), rows, strict=True):
            lines[position] = known.get(row, {})
    return table.frame_library.report(USAGE_COLUMNS, lines, table)


def samples(table: Table) -> Any:
    """Return the answers behind each decision (see `df.llm.samples`)."""
    found = provenance_of(table)
    tables = []
    for source in found.sources:
        rows = [(position, table.label(position), row) for position, one, row in found.places() if one is source]
        run = source.run
        library = table.frame_library
        tables.append(
            samples_of(run, rows, library) if isinstance(run, LiveRun) else _recorded_samples(run, rows, library)
        )
    if len(tables) == 1:
        return tables[0]
    return table.frame_library.concat(tables, by="position")


def agreement(table: Table) -> Any:
    """Return the share of samples that agree (see `df.llm.agreement`)."""
    found = provenance_of(table)
    shares: dict[str, np.ndarray[Any, Any]] = {}
    for at, source in enumerate(found.sources):
        assert source.record is not None  # a row was found in it
        if not source.record.agreement:
            raise PllmError("This run asked each row once. Several answers need samples= or models=.")
        here = found.source == at
        for name, known in source.record.agreement.items():
            column = shares.setdefault(name, np.full(table.total, np.nan))
            column[here] = known[found.row[here]]
    return table.frame_library.agreement(shares, table)


def evaluation(table: Table, against: Any, field: str | None) -> Evaluation:
    """Compare a field of the answers in the frame with labels (see `df.llm.evaluate`)."""
    found = provenance_of(table)
    if len({source.made for source in found.sources}) > 1:
        raise PllmError("The runs that made this frame have different columns; evaluate a part of it.")
    first = found.sources[0]
    answered = [False] * table.total
    samples: list[Any] = [None] * table.total
    several = all(_ensemble_of(source) is not None for source in found.sources)
    for position, source, row in found.places():
        assert source.record is not None  # a row was found in it
        answered[position] = bool(source.statuses[row] <= 1) and not found.changed[position]
        ensemble = _ensemble_of(source)
        if ensemble is not None:
            samples[position] = (ensemble, ensemble.table.call_of_row[row])
    if isinstance(first.run, LiveRun):
        prefix, fields = first.run.spec.options.prefix, _fields(first.run)
    else:
        prefix, fields = first.run.header["options"].get("prefix", ""), first.run.header["fields"]
    columns = [column for column in first.made if column.name in fields]
    shown = found.examples.tolist()
    asked = EvaluationInput(
        columns, prefix, first.explode, answered, samples if several else None, _values_of(first), shown
    )
    # The run's own columns cannot be labels for it.
    return evaluate(table, table, asked, against, field, without={column.name for column in first.made})


def explain(table: Table, position: int | None, label: Any = None) -> Explanation:
    """Show everything about one row's call (see `df.llm.explain`)."""
    at = _position(table, position, label)
    found = provenance_of(table)
    place = next((place for place in found.places() if place[0] == at), None)
    if place is None:
        raise PllmError(f"No known run made row {at} of this frame: its content differs.")
    _, source, row = place
    explained = source.run.explain(row) if isinstance(source.run, LiveRun) else _explained(table, source, at, row)
    own = _label(table, at)
    return replace(explained, position=at, label=None if isinstance(own, int) and own == at else own)


def _label(table: Table, row: int) -> Any:
    """Return a row's label as a Python value, whose repr is what a user would type."""
    label = table.label(row)
    return label.item() if isinstance(label, np.generic) else label


def _position(table: Table, position: int | None, label: Any) -> int:
    """Return the position of the row given by its position or its label."""
    if label is None and position is not None:
        has_label = bool(table.positions(position))
        hint = f" Its index has the label {position!r}: explain(label={position!r})." if has_label else ""
        return position_of(position, table.total, "frame", hint)
    if label is None or position is not None:
        raise UsageError(
            "A row is named by its position, counted from 0 whatever the index is, or by label=, its label in the "
            "index. Nothing was sent."
        )
    rows = table.positions(label)
    if not rows:
        labels = ", ".join(repr(_label(table, row)) for row in range(min(table.total, 3)))
        more = ", …" if table.total > 3 else ""
        raise UsageError(
            f"No row of the frame has the label {label!r}; its labels are {labels}{more}. Nothing was sent."
        )
    if len(rows) > 1:
        raise UsageError(
            f"{len(rows):,} rows of the frame have the label {label!r}, the first of them at the positions "
            f"{', '.join(map(str, rows[:3]))}. Give a position. Nothing was sent."
        )
    return rows[0]


def _explained(table: Table, source: Source, position: int, row: int) -> Explanation:
    run, record = source.run, source.record
    assert isinstance(run, RegisteredRun)
    assert record is not None
    failure = run.failures_of([row]).get(row)
    key, entry = run.answers_of([row]).get(row, ("", None))
    metadata = {} if entry is None else entry.metadata
    several = bool(record.several[row])  # the usage of the replies before the answer is unknown
    model = metadata.get("asked") if record.samples is not None else None
    return Explanation(
        position=row,
        status=STATUSES[run.statuses[row]],
        model=model or run.header["model"],
        simulated=run.header["simulated"],
        prompt=_prompt(table, source, position) or None,
        body=None,
        key=key,
        value=None,
        failure="" if failure is None else f"{failure['kind']}: {failure['message']}",
        reply=None if entry is None else decoded_body(entry.raw),
        attempts=metadata.get("attempts", 0 if failure is None else failure["attempts"]),
        latency_s=metadata.get("latency_s"),
        usage=None if entry is None or several else entry.usage,
        cost_usd=None if several else metadata.get("cost_usd"),
        evidence=evidence_lines(run, row, table, source.asked, position),
    )


def _failed(found: Provenance) -> Any:
    return (place for place in found.places() if place[1].record is not None and place[1].record.failure[place[2]])


def _kept(source: Source, row: int) -> dict[str, Any] | None:
    assert isinstance(source.run, RegisteredRun)
    known = source.run.failures_of([row]).get(row)
    return None if known is None else {"position": row, **known}


def _prompt(table: Table, source: Source, position: int) -> str:
    """Rebuild the prompt of a row of an earlier run; "" if it was not only text, or is unknown."""
    assert isinstance(source.run, RegisteredRun)
    header = source.run.header
    literals, names = header["template"] or ([], list(source.asked))
    if set(names) != set(source.asked):  # images, or an instruction for each row
        return ""
    template = None if not literals else Template(header["prompt"], tuple(literals), tuple(names))
    (prompt,) = prompts_of(table.slice(range(position, position + 1)).column_data(names), template, "send")(range(1))
    return "" if prompt is None or isinstance(prompt, Failure) else prompt


def _recorded_samples(run: RegisteredRun, rows: list[tuple[int, Any, int]], library: FrameLibrary) -> Any:
    """Return the answers behind some rows of a run that is no longer in memory, read from the cache."""
    ensemble = run.header.get("ensemble")
    parts = ensemble is not None and ensemble.get("assembled") is not None
    if ensemble is None or parts or run.record is None or run.record.samples is None:
        raise PllmError("This run asked each row once. Several answers need samples= or models=.")
    members = [(model, sample) for model, sample, _ in ensemble["members"]]
    return sample_frame(columns_in(ensemble["columns"]), members, run.read_answers().sampled(rows), library)


def _handle(run: LiveRun | RegisteredRun) -> Run | RecordedRun:
    return RecordedRun(run.header, run.files) if isinstance(run, RegisteredRun) else handle_of(run)


def _ensemble_of(source: Source) -> EnsembleResults | None:
    return sampled_by(source.run)


def _values_of(source: Source) -> Callable[[Any], Sequence[Any]]:
    """Return the function that splits an answer into the result's columns. It is called only for runs in memory."""
    shape: Any = getattr(getattr(source.run, "rows", None), "shape", None)
    return tuple if shape is None else cast("Callable[[Any], Sequence[Any]]", shape.values_of)


def _fields(run: LiveRun) -> list[str]:
    rows: Any = run.rows
    fields: list[str] = rows.described(run)["fields"]
    return fields
