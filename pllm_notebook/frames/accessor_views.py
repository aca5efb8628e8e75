"""What `.llm` says of the rows of a frame: their status, failures, usage, samples and worth, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from pllm_notebook.ensemble import EnsembleResults
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import Explanation, Run
from pllm_notebook.execution.explain import position_of
from pllm_notebook.execution.row_record import STATUSES
from pllm_notebook.execution.run_summary import live_lines, recorded_lines, shown
from pllm_notebook.formatting import counted
from pllm_notebook.frames.evaluation import Evaluation, EvaluationInput, evaluate
from pllm_notebook.frames.pandas.cells import column_data, column_names
from pllm_notebook.frames.provenance import Provenance, Source, named_run, provenance_of
from pllm_notebook.frames.recorded_answers import columns_in
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.frames.rows import USAGE_DTYPES, error_rows, prompts_of, usage_rows
from pllm_notebook.frames.samples import Agreement, samples_of, table_of
from pllm_notebook.records import Failure
from pllm_notebook.templates import Template

__all__ = [
    "STATUS_WORDS",
    "agreement",
    "as_html",
    "errors",
    "evaluation",
    "explain",
    "run_of",
    "samples",
    "status",
    "usage",
]

STATUS_WORDS = (*STATUSES, "changed")

_NAMED = 8
"""Columns that a summary names."""

_ERROR_DTYPES = {
    "position": "int64",
    "kind": "string",
    "message": "string",
    "attempts": "int64",
    "raw": "string",
    "cost_usd": "Float64",
    "status": "Int64",
    "field": "string",
    "request_id": "string",
    "prompt": "string",
}


def run_of(frame: pd.DataFrame) -> Run | RecordedRun:
    """Return the run that made a frame (see `df.llm.run`)."""
    source = named_run(frame)
    if source is not None:
        return source.run
    found = provenance_of(frame).sources
    if len(found) > 1:
        ids = ", ".join(repr(source.run.id) for source in found)
        raise PllmError(f"The rows of this frame are of several runs, {ids}: pllm.run('id') opens one.")
    return found[0].run


def as_html(frame: pd.DataFrame) -> str:
    """Return what `.llm` of a frame shows: its rows, the run that made it, and how to go on."""
    columns = column_names(frame)
    size = f"{counted(len(frame), 'row')}, {counted(len(columns), 'column')}"
    try:
        source = named_run(frame)
        words = "" if source is None else ", ".join(
            f"{times:,} {word}" for word, times in status(frame).value_counts().items() if times
        )  # fmt: skip
    except PllmError:  # a run that is not known any more, or other rows under its id
        source = None
    if source is None:
        names = ", ".join(columns[:_NAMED]) + (", …" if len(columns) > _NAMED else "")
        lines = (f"{size}: {names}", "llm.preview(Model, prompt) asks the first rows; estimate() says what all cost.",
                 "llm.parse(Model, prompt) asks every row, llm.complete(prompt) for text.")  # fmt: skip
        return shown("llm", lines, simulated=False)
    run = source.run
    if isinstance(run, Run):
        p = run.progress()
        told, simulated = live_lines(run.id, p, run.rows.source, run.origin), p.simulated
    else:
        told, simulated = recorded_lines(run.header, run.state), bool(run.header["simulated"])
    on = f"llm.status, .errors, .usage and .explain(row) say more of each row; pllm.run({run.id!r}) is the whole run."
    return shown(f"llm: made by run {run.id}", (f"{size}: {words}", told[0], on), simulated=simulated)


def status(frame: pd.DataFrame) -> pd.Series[Any]:
    """Return what became of each row (see `df.llm.status`)."""
    found = provenance_of(frame)
    codes = np.full(len(frame), -1, dtype=np.int8)
    for at, source in enumerate(found.sources):
        here = found.source == at
        assert source.record is not None  # a row was found in it
        codes[here] = source.record.status[found.row[here]]
    codes[found.changed] = len(STATUSES)
    kinds: pd.CategoricalDtype[Any] = pd.CategoricalDtype(list(STATUS_WORDS))
    return pd.Series(pd.Categorical.from_codes(codes, dtype=kinds), index=frame.index, name="status")


def errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the failed rows, one a line (see `df.llm.errors`)."""
    found = provenance_of(frame)
    records: list[dict[str, Any]] = []
    for position, source, row in _failed(found):
        record = next(error_rows(source.run, [row]), None) if isinstance(source.run, Run) else _kept(source, row)
        if record is not None:
            record["position"] = position
            if isinstance(source.run, RecordedRun):
                record["prompt"] = _prompt(frame, source, position)[:100]
            records.append(record)
    table = pd.DataFrame(records, columns=list(_ERROR_DTYPES)).astype(_ERROR_DTYPES)
    labels = [frame.index[record["position"]] for record in records]
    table.insert(1, "label", pd.Series(labels, dtype="object"))
    return table


def usage(frame: pd.DataFrame) -> pd.DataFrame:
    """Return tokens, US dollars and seconds for each row (see `df.llm.usage`)."""
    lines: list[Any] = [{}] * len(frame)
    found = provenance_of(frame)
    for at, source in enumerate(found.sources):
        here = np.flatnonzero(found.source == at)
        rows = found.row[here].tolist()
        if isinstance(source.run, Run):
            known: Any = dict(zip(rows, usage_rows(source.run, rows), strict=True))
        else:
            known = source.run.usage_of(rows)
        for position, row in zip(here.tolist(), rows, strict=True):
            lines[position] = known.get(row, {})
    return pd.DataFrame(lines, columns=list(USAGE_DTYPES), index=frame.index).astype(USAGE_DTYPES)


def samples(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the answers behind each decision (see `df.llm.samples`)."""
    found = provenance_of(frame)
    tables = []
    for source in found.sources:
        rows = [(position, frame.index[position], row) for position, one, row in found.places() if one is source]
        run = source.run
        tables.append(samples_of(run, rows) if isinstance(run, Run) else _recorded_samples(run, rows))
    if len(tables) == 1:
        return tables[0]
    return pd.concat(tables).sort_values("position", kind="stable", ignore_index=True)


def agreement(frame: pd.DataFrame) -> Agreement:
    """Return the share of samples that agree (see `df.llm.agreement`)."""
    found = provenance_of(frame)
    shares: dict[str, np.ndarray[Any, Any]] = {}
    for at, source in enumerate(found.sources):
        assert source.record is not None  # a row was found in it
        if not source.record.agreement:
            raise PllmError("This run asked each row once: there are several answers only with samples= or models=.")
        here = found.source == at
        for name, known in source.record.agreement.items():
            column = shares.setdefault(name, np.full(len(frame), np.nan))
            column[here] = known[found.row[here]]
    made = {
        name: pd.array([None if share != share else share for share in column.tolist()], dtype="Float64")
        for name, column in shares.items()
    }
    return Agreement(made, index=frame.index)


def evaluation(frame: pd.DataFrame, against: Any, field: str | None) -> Evaluation:
    """Compare a field of the answers that stand in the frame with labels (see `df.llm.evaluate`)."""
    found = provenance_of(frame)
    if len({source.made for source in found.sources}) > 1:
        raise PllmError("The rows of this frame are of runs with different columns; evaluate a part of it.")
    first = found.sources[0]
    answered = [False] * len(frame)
    samples: list[Any] = [None] * len(frame)
    several = all(_course(source) is not None for source in found.sources)
    for position, source, row in found.places():
        assert source.record is not None  # a row was found in it
        answered[position] = bool(source.record.status[row] <= 1) and not found.changed[position]
        course = _course(source)
        if course is not None:
            samples[position] = (course, course.table.call_of_row[row])
    if isinstance(first.run, Run):
        prefix, fields = first.run.ask.options.prefix, _fields(first.run)
    else:
        prefix, fields = first.run.header["options"].get("prefix", ""), first.run.header["fields"]
    columns = [column for column in first.made if column.name in fields]
    asked = EvaluationInput(columns, prefix, first.explode, answered, samples if several else None, _values_of(first))
    # An answer is no label of itself.
    others = frame.loc[:, [name not in {column.name for column in first.made} for name in column_names(frame)]]
    return evaluate(others, frame, asked, against, field)


def explain(frame: pd.DataFrame, position: int) -> Explanation:
    """Show everything about one row's call (see `df.llm.explain`)."""
    at = position_of(position, len(frame), "frame")
    found = provenance_of(frame)
    place = next((place for place in found.places() if place[0] == at), None)
    if place is None:
        raise PllmError(f"Row {position} of this frame is of no run that is known: its content is another.")
    _, source, row = place
    if isinstance(source.run, Run):
        return source.run.explain(row)
    return _explained(frame, source, at, row)


def _explained(frame: pd.DataFrame, source: Source, position: int, row: int) -> Explanation:
    run, record = source.run, source.record
    assert isinstance(run, RecordedRun)
    assert record is not None
    failure = run.failures_of([row]).get(row)
    key, entry = run.replies_of([row]).get(row, ("", None))
    metadata = {} if entry is None else entry.metadata
    return Explanation(
        position=row,
        status=STATUSES[record.status[row]],
        model=run.header["model"],
        simulated=run.header["simulated"],
        prompt=_prompt(frame, source, position) or None,
        body=None,
        key=key,
        value=None,
        failure="" if failure is None else f"{failure['kind']}: {failure['message']}",
        reply=None if entry is None else run.reply(row),
        attempts=metadata.get("attempts", 0 if failure is None else failure["attempts"]),
        latency_s=metadata.get("latency_s"),
        usage=None if entry is None else entry.usage,
        cost_usd=metadata.get("cost_usd"),
    )


def _failed(found: Provenance) -> Any:
    return (place for place in found.places() if place[1].record is not None and place[1].record.failure[place[2]])


def _kept(source: Source, row: int) -> dict[str, Any] | None:
    assert isinstance(source.run, RecordedRun)
    known = source.run.failures_of([row]).get(row)
    return None if known is None else {"position": row, **known}


def _prompt(frame: pd.DataFrame, source: Source, position: int) -> str:
    """Make the prompt of a row of an earlier run again; "" where it was more than text, or none."""
    assert isinstance(source.run, RecordedRun)
    header = source.run.header
    literals, names = header["template"] or ([], list(source.asked))
    if set(names) != set(source.asked):  # images, or an instruction of the row's own
        return ""
    template = None if not literals else Template(header["prompt"], tuple(literals), tuple(names))
    (prompt,) = prompts_of(column_data(frame.iloc[[position]], names), template, "send")(range(1))
    return "" if prompt is None or isinstance(prompt, Failure) else prompt


def _recorded_samples(run: RecordedRun, rows: list[tuple[int, Any, int]]) -> pd.DataFrame:
    """Return the answers behind some rows of a run that is not held any more, read from the cache."""
    ensemble = run.header.get("ensemble")
    if ensemble is None or run.record is None or run.record.samples is None:
        raise PllmError("This run asked each row once: there are several answers only with samples= or models=.")
    members = [(model, sample) for model, sample, _ in ensemble["members"]]
    return table_of(columns_in(ensemble["columns"]), members, run.answers().sampled(rows))


def _course(source: Source) -> EnsembleResults | None:
    course = source.run.course.decider if isinstance(source.run, Run) else None
    return course if isinstance(course, EnsembleResults) else None


def _values_of(source: Source) -> Callable[[Any], Sequence[Any]]:
    """Return what takes an answer apart into the result's columns; of a run that is not held, it is never called."""
    shape: Any = getattr(getattr(source.run, "rows", None), "shape", None)
    return tuple if shape is None else cast("Callable[[Any], Sequence[Any]]", shape.values_of)


def _fields(run: Run) -> list[str]:
    rows: Any = run.rows
    fields: list[str] = rows.described(run)["fields"]
    return fields
