"""What an ensemble's members answered, and how far they agree, as frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pllm_notebook.ensemble import Decision, EnsembleCourse
from pllm_notebook.exceptions import MissingPackageError, PllmError
from pllm_notebook.frames.dtypes import Column, Kind, column_of
from pllm_notebook.frames.pandas_columns import array_of
from pllm_notebook.run import Run

__all__ = ["Agreement", "candidates_of", "shares_of", "whole_agreement"]

WHOLE = "whole_answer"
_BEFORE = 6  # columns of a sample before its fields: position, label, model, sample, chosen, decided
_BINS = 10


class Agreement(pd.DataFrame):
    """Shares of samples that agree, from 0 to 1 (see `df.llm.agreement`). What is made of it is a plain frame."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def plot(self, *, bins: int = _BINS, ax: Any = None) -> Any:  # type: ignore[override]
        """Draw how many rows agree how far, for each field.

        Args:
            bins: Number of bars from 0 to 1.
            ax: Where to draw (matplotlib), None for a new figure.

        Returns:
            The axes.

        Raises:
            MissingPackageError: Without matplotlib.
        """
        try:
            from matplotlib import pyplot
        except ImportError:
            raise MissingPackageError("The plot of agreement", "matplotlib", "evaluate") from None
        ax = pyplot.subplots(figsize=(7, 3))[1] if ax is None else ax
        edges = [at / bins for at in range(bins + 1)]
        columns = [self[name].dropna().astype(float).to_list() for name in self.columns]
        ax.hist(columns, bins=edges, label=list(self.columns))
        ax.set_xlabel("share of samples with the most common value")
        ax.set_ylabel("rows")
        ax.legend(frameon=False)
        return ax


def shares_of(run: Run) -> dict[str, np.ndarray[Any, Any]]:
    """Return the shares of each row, field by field (see `df.llm.agreement`); {} where rows were asked once."""
    course = run.course
    if not isinstance(course, EnsembleCourse):
        return {}
    names = _names(course)
    made: dict[str, list[float | None]] = {name: [] for name in names}
    for row in range(run.rows.total):
        decision = _decision(course, row)
        shares: Sequence[float | None] = () if decision is None else decision.agreement
        for at, name in enumerate(names):
            made[name].append(shares[at] if at < len(shares) else None)
    if len(names) > 1:
        made[_free(WHOLE, names)] = whole_agreement(run)
    return {name: np.array(values, dtype=np.float64) for name, values in made.items()}


def whole_agreement(run: Run) -> list[float | None]:
    """Give for each row the share of samples with the most common whole answer, None where none came."""
    course = _course(run)
    decisions = (_decision(course, row) for row in range(run.rows.total))
    return [None if decision is None or not decision.agreement else decision.whole for decision in decisions]


def candidates_of(run: Run, rows: Iterable[tuple[int, Any, int]]) -> pd.DataFrame:
    """Return every answer of some rows, in long form (see `df.llm.samples`).

    Args:
        run: A live one.
        rows: Position and label to show, and row of the run.
    """
    course = _course(run)
    output = course.plan.output
    columns = _columns(course)
    names = [column.name for column in columns]
    taken: list[str] = []
    lines: list[dict[str, Any]] = []
    for position, label, row in rows:
        call = course.ledger.call_of_row[row]
        if call < 0:
            continue
        decision = course.decisions.get(call)
        for at, (member, outcome) in enumerate(zip(course.plan.members, course.outcomes(call), strict=True)):
            value = None if outcome is None else outcome.value
            failure = None if outcome is None else outcome.failure
            parts: Sequence[Any] = (value,) * len(names)
            if value is not None and output is not None:
                parts = output.field_values(value)
            line: dict[str, Any] = {
                "position": position,
                "label": label,
                "model": member.model,
                "sample": member.sample,
                "chosen": decision is not None and decision.chosen == at,
                "decided": None if decision is None else decision.how,
            }
            taken = [_free(name, line) for name in names]
            line |= dict(zip(taken, parts, strict=True))
            line[_free("score", line)] = None if decision is None else decision.scores.get(at)
            line[_free("failure", line)] = None if failure is None else f"{failure.kind}: {failure.message}"
            lines.append(line)
    made = pd.DataFrame({name: pd.Series([line[name] for line in lines]) for name in (lines[0] if lines else ())
                         if name not in taken})  # fmt: skip
    for at, (name, column) in enumerate(zip(taken, columns, strict=False)):
        made.insert(_BEFORE + at, name, array_of(column, [line[name] for line in lines]))
    return made


def _course(run: Run) -> EnsembleCourse:
    if not isinstance(run.course, EnsembleCourse):
        raise PllmError("This run asked each row once: there are several answers only with samples= or models=.")
    return run.course


def _names(course: EnsembleCourse) -> list[str]:
    """Name the fields of one answer, which `explode` takes no part of."""
    return [column.name for column in _columns(course)]


def _columns(course: EnsembleCourse) -> list[Column]:
    output, options = course.plan.output, course.plan.members[0].ask.options
    if output is None:
        return [Column(options.prefix + options.column, Kind.TEXT)]
    if output.fields is None:
        return [column_of(options.prefix + options.column, output.left, options.nested)]
    return [column_of(options.prefix + field.name, field.left, options.nested) for field in output.fields]


def _decision(course: EnsembleCourse, row: int) -> Decision | None:
    call = course.ledger.call_of_row[row]
    return None if call < 0 else course.decisions.get(call)


def _free(name: str, taken: Any) -> str:
    """Give *name*, or one like it that is not taken."""
    while name in taken:
        name += "_"
    return name
