"""The answers of an ensemble's members and their agreement, as frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np

from pllm_notebook.ensemble import Assembly, Decision, EnsembleResults, How
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import CallSpec, LiveRun, RowRecord, SampleRecord, key_prefixes, kind_number
from pllm_notebook.frames.dtypes import Column, Kind, column_of
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.table import FrameLibrary
from pllm_notebook.frames.tool_calls import ToolCallColumns
from pllm_notebook.settings import Options

__all__ = [
    "HOWS",
    "NOT_ENDED",
    "SampledRow",
    "add_samples",
    "described",
    "sample_frame",
    "sampled_by",
    "samples_of",
    "shares_of",
    "whole_agreement",
]

# Options that decide which columns the answers become.
_SHAPING = ("prefix", "column", "explode", "nested", "flatten", "error_column", "agreement_column",
            "confidence_column", "evidence", "calibration")  # fmt: skip

HOWS: tuple[str, ...] = get_args(How)
"""The ways to decide a row. Only append to them, because the registry stores positions."""

NOT_ENDED = 255
SAMPLE_KEY_BYTES = 12
"""Number of stored characters of each sample's key: 72 bits, enough to be unique within one cache."""

WHOLE = "whole_answer"


def sampled_by(run: Any) -> EnsembleResults | None:
    """Return the results of an ensemble with several answers per row; None if rows have one, even one made of parts."""
    ensemble = run.execution.decider if isinstance(run, LiveRun) else None
    return ensemble if isinstance(ensemble, EnsembleResults) and ensemble.plan.assembly is None else None


def shares_of(run: LiveRun) -> dict[str, np.ndarray[Any, Any]]:
    """Return the agreement of each row by field (see `df.llm.agreement`), {} for a run with one answer per row."""
    ensemble = sampled_by(run)
    if ensemble is None:
        return {}
    names = _names(ensemble)
    made: dict[str, list[float | None]] = {name: [] for name in names}
    for row in range(run.rows.total):
        decision = _decision(ensemble, row)
        shares: Sequence[float | None] = () if decision is None else decision.agreement
        for at, name in enumerate(names):
            made[name].append(shares[at] if at < len(shares) else None)
    if len(names) > 1:
        made[_free(WHOLE, names)] = whole_agreement(run)
    return {name: np.array(values, dtype=np.float64) for name, values in made.items()}


def whole_agreement(run: LiveRun) -> list[float | None]:
    """Return, for each row, the share of samples with the most common whole answer; None without answers."""
    ensemble = _ensemble_of(run)
    decisions = (_decision(ensemble, row) for row in range(run.rows.total))
    return [None if decision is None or not decision.agreement else decision.whole for decision in decisions]


class SampledRow(NamedTuple):
    """The answers behind one row.

    Attributes:
        position: Position to show.
        label: Label to show.
        values: The field values of each member, None for a member without an answer.
        failures: The failure of each member as text, None without a failure.
        how: How the row was decided (see `ensemble.Decision`), None if it was not.
        chosen: The member whose answer the row has, None if it has no member's answer.
        scores: A judge's mean scores, by member.
    """

    position: int
    label: Any
    values: Sequence[Sequence[Any] | None]
    failures: Sequence[str | None]
    how: str | None
    chosen: int | None
    scores: Mapping[int, float]


def samples_of(run: LiveRun, rows: Iterable[tuple[int, Any, int]], library: FrameLibrary) -> Any:
    """Return every answer of some rows, in long form (see `df.llm.samples`).

    Args:
        run: A live run.
        rows: Position and label to show, and row of the run.
        library: The library that builds the frame.
    """
    ensemble = _ensemble_of(run)
    members = [(member.model, member.sample) for member in ensemble.plan.members]
    sampled = (_sampled(ensemble, *row) for row in rows if ensemble.table.call_of_row[row[2]] >= 0)
    return sample_frame(_columns(ensemble), members, sampled, library)


def sample_frame(
    columns: Sequence[Column], members: Sequence[tuple[str, int]], sampled: Iterable[SampledRow], library: FrameLibrary
) -> Any:
    """Return the answers behind some rows, in long form (see `df.llm.samples`).

    Args:
        columns: The columns of one answer.
        members: Model and sample of each member.
        sampled: The rows.
        library: The library that builds the frame.
    """
    names = [column.name for column in columns]
    nothing = (None,) * len(names)
    taken: list[str] = []
    lines: list[dict[str, Any]] = []
    for one in sampled:
        for at, (model, sample) in enumerate(members):
            line: dict[str, Any] = {
                "position": one.position,
                "label": one.label,
                "model": model,
                "sample": sample,
                "chosen": one.chosen == at,
                "decided": one.how,
            }
            taken = [_free(name, line) for name in names]
            line |= dict(zip(taken, one.values[at] or nothing, strict=True))
            line[_free("score", line)] = one.scores.get(at)
            line[_free("failure", line)] = one.failures[at]
            lines.append(line)
    made = {name: [line[name] for line in lines] for name in (lines[0] if lines else ())}
    for name, column in zip(taken, columns, strict=False):
        made[name] = library.array(column, made[name])
    return library.columns_frame(made)


def _sampled(ensemble: EnsembleResults, position: int, label: Any, row: int) -> SampledRow:
    call, output = ensemble.table.call_of_row[row], ensemble.plan.output
    decision = ensemble.decisions.get(call)
    values: list[Sequence[Any] | None] = []
    failures: list[str | None] = []
    for outcome in ensemble.outcomes(call):
        value = None if outcome is None else outcome.value
        parts = (value,) if value is None or output is None else output.field_values(value)
        values.append(None if value is None else parts)
        failure = None if outcome is None else outcome.failure
        failures.append(None if failure is None else f"{failure.kind}: {failure.message}")
    if decision is None:
        return SampledRow(position, label, values, failures, None, None, {})
    return SampledRow(position, label, values, failures, decision.how, decision.chosen, decision.scores)


def described(run: LiveRun, shape: ResultColumns, options: Options) -> dict[str, Any]:
    """Return the result's columns and how to build them from stored replies, for the header in the registry.

    Args:
        run: The run, in its current state.
        shape: The result's columns.
        options: The options that *shape* was made from.
    """
    columns = {column.name: column for column in shape.columns}
    kinds = [columns.get(name, Column(name, Kind.OBJECT)) for name in shape.names]
    ensemble = run.execution.decider
    header: dict[str, Any] = {
        "answers": "calls" if isinstance(shape, ToolCallColumns) else "values",
        "explode": shape.explode,
        "made": _written(kinds),
        "fields": [column.name for column in shape.columns],
        "shaping": {name: getattr(options, name) for name in _SHAPING},
        "dialect": None if run.spec.fitted is None else run.spec.fitted.dialect,
        "takes_empty": run.spec.takes_empty,
        "field_names": [field.name for field in (run.spec.output and run.spec.output.fields) or ()],
        "ensemble": None,
    }
    if isinstance(ensemble, EnsembleResults):
        plan = ensemble.plan
        header["ensemble"] = {
            "members": [[member.model, member.sample, _dialect(member.spec)] for member in plan.members],
            "columns": _written(_columns(ensemble)),
            "decide": plan.decide if isinstance(plan.decide, str) else "function",
            "vote": {"numbers": plan.vote.numbers, "lists": plan.vote.lists, "fields": dict(plan.vote.fields)},
            "further": None if plan.further is None else _dialect(plan.further),
            "assembled": plan.assembly.written() if isinstance(plan.assembly, Assembly) else None,
        }  # fmt: skip
    return header


def _written(columns: Sequence[Column]) -> list[dict[str, Any]]:
    return [
        {"name": c.name, "kind": str(c.kind), "categories": list(c.categories)}
        | ({} if c.type is None else {"type": c.type.written()})
        for c in columns
    ]


def _dialect(spec: CallSpec) -> str | None:
    return None if spec.fitted is None else spec.fitted.dialect


def add_samples(record: RowRecord, run: LiveRun) -> None:
    """Add samples and agreement to the record of a run's rows. Does nothing for a run that is not an ensemble."""
    ensemble = run.execution.decider
    if not isinstance(ensemble, EnsembleResults):
        return
    record.agreement = shares_of(run)
    calls = np.array(ensemble.table.call_of_row, dtype=np.int64)
    total = len(ensemble.table.keys)
    members = len(ensemble.plan.members)
    # The extra entry at the end is for rows without a call.
    keys = np.zeros((total + 1, members, SAMPLE_KEY_BYTES), dtype=np.uint8)
    failure = np.full((total + 1, members), NOT_ENDED, dtype=np.uint8)
    chosen, how = np.full(total + 1, -1, dtype=np.int8), np.zeros(total + 1, dtype=np.uint8)
    for at in range(members):
        own, outcomes = ensemble.samples(at)
        own, outcomes = own[:total], outcomes[:total]
        last = [key if o is None else o.last or o.key or key for key, o in zip(own, outcomes, strict=False)]
        keys[: len(last), at] = key_prefixes(last, SAMPLE_KEY_BYTES)
        failure[: len(last), at] = [
            NOT_ENDED if o is None else 0 if o.failure is None else kind_number(o.failure.kind)
            for o in outcomes[: len(last)]
        ]
    replies: dict[int, str] = {}
    for call, decision in list(ensemble.decisions.items()):
        how[call] = 1 + HOWS.index(decision.how)
        chosen[call] = -1 if decision.chosen is None else decision.chosen
        if decision.reply:
            replies[call] = decision.reply
    at_call = np.where((calls >= 0) & (calls < total), calls, -1)
    record.samples = SampleRecord(keys[at_call], failure[at_call], chosen[at_call], how[at_call])
    later = np.flatnonzero(np.isin(at_call, list(replies))) if replies else np.zeros(0, dtype=np.int64)
    record.later_rows = later.astype(np.int32)
    record.later_keys = key_prefixes([replies[call] for call in at_call[later].tolist()])


def _ensemble_of(run: LiveRun) -> EnsembleResults:
    ensemble = sampled_by(run)
    if ensemble is None:
        raise PllmError("This run asked each row once. Several answers need samples= or models=.")
    return ensemble


def _names(ensemble: EnsembleResults) -> list[str]:
    """Return the names of the fields of one answer, regardless of `explode`."""
    return [column.name for column in _columns(ensemble)]


def _columns(ensemble: EnsembleResults) -> list[Column]:
    output, options = ensemble.plan.output, ensemble.plan.members[0].spec.options
    if output is None:
        return [Column(options.prefix + options.column, Kind.TEXT)]
    if output.fields is None:
        return [column_of(options.prefix + options.column, output.left, options.nested)]
    return [column_of(options.prefix + field.name, field.left, options.nested) for field in output.fields]


def _decision(ensemble: EnsembleResults, row: int) -> Decision | None:
    call = ensemble.table.call_of_row[row]
    return None if call < 0 else ensemble.decisions.get(call)


def _free(name: str, taken: Any) -> str:
    """Return *name*, with `_` added until it is not taken."""
    while name in taken:
        name += "_"
    return name
