"""The guarantee of a run with `guarantee=`, and the model that answered each row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pllm_notebook.ensemble import EnsembleSpec, GuaranteedResults, GuaranteeFigures, KnownLabels
from pllm_notebook.exceptions import PllmError, UnknownColumnError, UsageError, guess
from pllm_notebook.execution import LiveRun
from pllm_notebook.formatting import escape_html, strip_control_chars
from pllm_notebook.frames.dtypes import Column
from pllm_notebook.frames.labels import plain_values
from pllm_notebook.frames.provenance import Source, provenance_of
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.samples import HOWS
from pllm_notebook.frames.stored_labels import STORED, label_column
from pllm_notebook.frames.table import LabelColumn, Table
from pllm_notebook.options import Options

__all__ = [
    "RowGuarantee",
    "figures_of",
    "guarantee_of",
    "names_of_labels",
    "promise_of",
    "refuse_in_pieces",
    "with_labels",
]


@dataclass(frozen=True)
class RowGuarantee:
    """The guarantee for the rows of a run, and the model that answered each row.

    Attributes:
        promise: The guarantee in one sentence, or the reason why there is none. It covers all rows of the run, even if
            the frame has only some of them.
        proved: Whether anything is guaranteed.
        threshold: The lowest confidence with which a low-cost answer is kept, None if none is kept.
        sampled: Number of rows in the sample, which are compared with strong answers or with labels.
        rows_by_model: Maps each model to the number of rows that have its answer.
        cost_usd: Cost of all answers behind the rows when they were paid for, in US dollars; None if unknown.
        alone_usd: Approximate cost of the strong model alone for all rows, in US dollars; None if unknown.
        saving_usd: Approximate saving in US dollars, negative if the run cost more; None if unknown.
        figures: All figures (see `ensemble.GuaranteeFigures`).
        answered_by: The model whose answer each row has, in the order of the frame; NA for rows without an answer and
            for rows corrected by hand.
    """

    figures: GuaranteeFigures
    answered_by: Any = dataclasses.field(repr=False)

    @property
    def promise(self) -> str:
        """The guarantee in one sentence, or the reason why there is none."""
        return self.figures.promise

    @property
    def proved(self) -> bool:
        """Whether the guarantee is proved."""
        return self.figures.state == "proved"

    @property
    def threshold(self) -> float | None:
        """The lowest confidence with which a low-cost answer is kept, None if none is kept."""
        return self.figures.threshold

    @property
    def sampled(self) -> int:
        """The number of rows in the sample."""
        return self.figures.sampled

    @property
    def rows_by_model(self) -> dict[str, int]:
        """The number of rows that have each model's answer."""
        return {self.figures.low_cost: self.figures.kept, self.figures.strong: self.figures.escalated}

    @property
    def cost_usd(self) -> float | None:
        """The cost of all answers behind the rows in US dollars, None if unknown."""
        return self.figures.cost_usd

    @property
    def alone_usd(self) -> float | None:
        """The approximate cost of the strong model alone for all rows in US dollars, None if unknown."""
        return self.figures.alone_usd

    @property
    def saving_usd(self) -> float | None:
        """The approximate saving in US dollars, negative if the run cost more; None if unknown."""
        return self.figures.saving_usd

    def __repr__(self) -> str:
        return strip_control_chars("\n".join(self.figures.lines()))

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape_html(line)}</p>" for line in repr(self).splitlines())


def guarantee_of(table: Table) -> RowGuarantee:
    """Return the guarantee for the rows of a frame (see `df.llm.guarantee`)."""
    found = provenance_of(table)
    if len(found.sources) > 1:
        raise PllmError("Several runs made the rows of this frame, and each promise is about its own rows.")
    (source,) = found.sources
    figures = _figures(source)
    record = source.record
    assert record is not None  # a row was found in it
    models = np.full(len(record) + 1, None, dtype=object)
    if record.samples is not None:
        answered = record.status <= 1
        is_strong = record.samples.how == 1 + HOWS.index("escalated")
        models[:-1][answered & is_strong] = figures.strong
        models[:-1][answered & ~is_strong] = figures.low_cost
    rows = np.where((found.source == 0) & ~found.changed, found.row, -1)
    codes = [figures.low_cost, figures.strong]
    values = [-1 if model is None else codes.index(model) for model in models[rows].tolist()]
    return RowGuarantee(figures, table.frame_library.category_column("model", values, tuple(codes), table))


def promise_of(source: Source) -> str | None:
    """Return the guarantee of a run, or why there is none, in one sentence; None for a run without `guarantee=`."""
    figures = figures_of(source, priced=False)
    return None if figures is None else figures.promise


def _figures(source: Source) -> GuaranteeFigures:
    figures = figures_of(source, priced=True)
    if figures is None:
        raise PllmError("This run promises nothing of its rows. A promise needs decide='escalate' and guarantee=.")
    return figures


def figures_of(source: Source, *, priced: bool = True) -> GuaranteeFigures | None:
    """Return the figures of a run with `guarantee=`, None for other runs.

    Args:
        source: The run.
        priced: Whether to read the cost of a live run's answers.
    """
    run: LiveRun | RegisteredRun = source.run
    if isinstance(run, LiveRun):
        decider = run.execution.decider
        return decider.figures(priced=priced) if isinstance(decider, GuaranteedResults) else None
    kept = run.header.get("guarantee")
    return GuaranteeFigures.read(kept) if kept else None


def refuse_in_pieces(options: Options) -> None:
    """Reject `guarantee=` for rows that are sent in pieces.

    Raises:
        UsageError: If the options have it. Nothing was sent.
    """
    if options.guarantee is not None:
        raise UsageError(
            "guarantee= promises something of one whole table, and these rows are asked about in pieces. Ask about a "
            "frame that has all of them. Nothing was sent."
        )


def names_of_labels(against: Any) -> str | dict[str, str] | None:
    """Return the names of the labels in `against=`, for the record of a run; the frame has the labels themselves."""
    if against is None or isinstance(against, str):
        return against
    if isinstance(against, Mapping):
        return {str(name): str(names_of_labels(labels)) for name, labels in against.items()}
    return str(getattr(against, "name", None) or "labels")


def with_labels(spec: EnsembleSpec, table: Table, against: Any, columns: Mapping[str, Column]) -> EnsembleSpec:
    """Return a cascade whose guarantee is measured against labels.

    Args:
        spec: A cascade with a guarantee.
        table: The rows. Labels are columns of it, or aligned with it.
        against: As given by the caller.
        columns: Maps each field to its result column.

    Raises:
        UsageError: If a field has no labels, or no label is a possible value of it. Nothing was sent.
    """
    promise = spec.promise
    assert promise is not None
    names = promise.names
    if isinstance(against, Mapping) and not against:
        raise UsageError(
            f"against={{}} names no field. Give labels of some of {names}, or leave it out for a promise about "
            f"agreement. Nothing was sent."
        )
    given = list(against.values()) if isinstance(against, Mapping) else [against]
    for name in given:
        if isinstance(name, str) and name not in table.names and (name != STORED or isinstance(against, Mapping)):
            raise UnknownColumnError(name, table.names, "against=")
    if isinstance(against, Mapping):
        found = {str(name): table.labels(labels, ()) for name, labels in against.items()}
        if unknown := [name for name in found if name not in names]:
            raise UsageError(
                f"against= names the field {unknown[0]!r}, and the promise is about {names}."
                f"{guess(unknown[0], names)} Nothing was sent."
            )
    else:
        labels, own = label_column(table, against, columns, None)
        found = {_field_of(labels, own, names): labels}
    checked = {name: _checked(name, spec, labels) for name, labels in found.items()}
    return dataclasses.replace(spec, promise=promise.with_labels(checked))


def _field_of(labels: LabelColumn, own: str | None, names: Sequence[str]) -> str:
    wanted = own or labels.name
    if wanted in names:
        return str(wanted)
    if len(names) == 1:
        return names[0]
    given = "the labels have no name" if wanted is None else f"none is named {wanted!r}, as the labels are"
    raise UsageError(
        f"The promise is about several fields, {list(names)}, and {given}: give against={{{names[0]!r}: …}}. Nothing "
        f"was sent."
    )


def _checked(name: str, spec: EnsembleSpec, labels: LabelColumn) -> KnownLabels:
    promise = spec.promise
    assert promise is not None
    field = promise.fields[promise.names.index(name)]
    if field.kind == "labels":
        raise UsageError(f"{name!r} is a list, and labels are of single values. Nothing was sent.")
    values = plain_values(labels.values)
    known = [value for value, missing in zip(values, labels.missing, strict=True) if not missing]
    if not any(value in field.options for value in known):
        given = "the labels" if labels.name is None else repr(labels.name)
        what = f"none of {given} is one of {list(field.options)[:5]}" if known else "no row has a label"
        raise UsageError(f"against= has no label of {name!r}: {what}. Nothing was sent.")
    return KnownLabels(str(labels.name or "labels"), values, labels.missing)
