"""The changes of each field between two sides: number of rows, directions, and shift of the distribution."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from types import NoneType
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.lab.paired_tests import effective_count, holm, marginal_p, share_interval

__all__ = ["FieldChange", "FieldValues", "Move", "SamplingNoise", "coded", "field_changes"]

Numbers = np.ndarray[Any, np.dtype[Any]]

_MOST_CLASSES = 30
"""A field with more values than this has no table of moves and no test of its distribution."""


class Move(NamedTuple):
    """One direction of change.

    Attributes:
        old: The old value.
        new: The new value.
        rows: Number of rows.
    """

    old: Any
    new: Any
    rows: int


class SamplingNoise(NamedTuple):
    """How often asking the same question twice gives different values of one field.

    Attributes:
        share: Share of the pairs of answers to one row whose values differ.
        pairs: Number of pairs.
        origin: Origin of the pairs: "samples", or "recheck of" a day.
    """

    share: float
    pairs: int
    origin: str


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field on both sides, over the rows that have an answer on both.

    Attributes:
        field: The field's name without a run's prefix.
        compared: Rows with an answer on both sides.
        changed: Rows whose values differ.
        churn: Share of the compared rows that changed, 0 to 1. NaN without compared rows.
        low: Lower end of the 95 % interval of the churn (Wilson), with equal rows as one observation (Kish). It assumes
            that the rows are a sample of those that you care about; for these rows themselves the churn is exact.
        high: Upper end.
        noise: Share of pairs of answers to the same row and question whose values differ: the noise of asking twice.
            None if neither question has samples or a recheck.
        kappa: Agreement of both sides beyond chance (Cohen, 1960); NaN for free text, and for a single value.
        p_shift: p that the distribution has not shifted (Stuart), corrected for the number of fields (Holm). NaN for
            free text. It assumes many rows and is only rough if fewer than about 30 have changed.
        moves: Directions of change, the most frequent first. Empty for free text.
        values: Each value with its count in the old and in the new answers, for a field with few values.
        means: Mean of the old and of the new answers, over the compared rows with a value on that side: of numbers, or
            otherwise the number of characters or items. None without any.
        unit: Unit of the means. "" for the values themselves.
        noise_pairs: Number of pairs behind `noise`.
        noise_from: Origin of the pairs: "samples", or "recheck of" a day.
    """

    field: str
    compared: int
    changed: int
    churn: float
    low: float
    high: float
    noise: float | None
    kappa: float
    p_shift: float
    moves: tuple[Move, ...]
    values: tuple[tuple[Any, int, int], ...]
    means: tuple[float, float] | None
    unit: str
    noise_pairs: int = 0
    noise_from: str = ""


class FieldValues(NamedTuple):
    """A field's values on both sides, line by line.

    Attributes:
        column: The column of the new side.
        old: Values of the old side. None for a missing value.
        new: Values of the new side.
        codes: Both sides as indexes into the distinct values, each of shape (n,).
        values: The distinct values.
        differs: Whether both sides have an answer and the values differ.
    """

    column: Column
    old: Sequence[Any]
    new: Sequence[Any]
    codes: tuple[Numbers, Numbers]
    values: list[Any]
    differs: Numbers

    @classmethod
    def of(cls, column: Column, old: Sequence[Any], new: Sequence[Any], both: Numbers) -> FieldValues:
        """Build the values of two columns. *both*: whether each line has an answer on both sides."""
        was, becomes, values = coded(old, new)
        return cls(column, old, new, (was, becomes), values, (was != becomes) & both)

    def moved(self, old: Any, new: Any) -> Numbers:
        """Return which lines differ and have these values, `...` for any; an Enum's member is its value.

        Raises:
            UsageError: For a value that the type does not list and no line has.
        """
        chosen = self.differs
        for wanted, cells in ((old, self.old), (new, self.new)):
            if wanted is not ...:
                value = wanted.value if isinstance(wanted, Enum) else wanted
                known = self.column.categories
                if known and value is not None and value not in known and value not in self.values:
                    raise UsageError(
                        f"{self.column.name!r} is one of {list(known)}, not {wanted!r}.{guess(value, known)}"
                    )
                chosen = chosen & np.array([cell == value for cell in cells], dtype=bool)
        return chosen


# Sets of types in which no two values of different types are equal.
_PLAIN = ({str, int, float, NoneType}, {str, bool, NoneType})


def coded(old: Sequence[Any], new: Sequence[Any]) -> tuple[Numbers, Numbers, list[Any]]:
    """Return both columns as indexes into their distinct values, and these values in order of appearance."""
    kinds = {*map(type, old), *map(type, new)}
    if any(kinds <= plain for plain in _PLAIN):
        keys = (old, new)
        values = list(dict.fromkeys(chain(old, new)))
        place = dict(zip(values, range(len(values)), strict=True))
    else:
        keys = (list(map(_key, old)), list(map(_key, new)))
        known = dict(zip(chain(*keys), chain(old, new), strict=True))
        values = list(known.values())
        place = dict(zip(known, range(len(known)), strict=True))
    was, becomes = (np.fromiter(map(place.__getitem__, own), dtype=np.int64, count=len(own)) for own in keys)
    return was, becomes, values


def _key(cell: Any) -> Any:
    if isinstance(cell, (dict, list)):
        return "\0" + json.dumps(cell, sort_keys=True, default=repr)
    try:
        hash(cell)
    except TypeError:
        return "\0" + repr(cell)
    # As dictionary keys True equals 1, but they are different answers.
    return (bool, cell) if isinstance(cell, bool) else cell


def field_changes(
    fields: dict[str, FieldValues], both: Numbers, question: Numbers, noise: dict[str, SamplingNoise]
) -> list[FieldChange]:
    """Return the change of each field.

    Args:
        fields: Values by field name.
        both: Whether each line has an answer on both sides.
        question: A number for each line, equal for equal rows.
        noise: The known noise of each field.
    """
    asked = question[both]
    made = [_change(name, one, both, asked, noise.get(name)) for name, one in fields.items()]
    corrected = holm([one.p_shift for one in made])
    return [_with_p(one, p) for one, p in zip(made, corrected, strict=True)]


def _with_p(change: FieldChange, p: float) -> FieldChange:
    named = {name: getattr(change, name) for name in FieldChange.__slots__}
    return FieldChange(**(named | {"p_shift": p}))


def _change(
    name: str, field: FieldValues, both: Numbers, question: Numbers, noise: SamplingNoise | None
) -> FieldChange:
    was, becomes = (codes[both] for codes in field.codes)
    values, compared = field.values, len(was)
    differs = was != becomes
    changed = int(differs.sum())
    churn = changed / compared if compared else float("nan")
    effective = effective_count(question) if compared else 0.0
    low, high = share_interval(churn * effective if compared else 0.0, effective)
    few = len(values) <= _MOST_CLASSES
    means, unit = _means(field, was, becomes)
    return FieldChange(
        field=name,
        compared=compared,
        changed=changed,
        churn=churn,
        low=low,
        high=high,
        noise=None if noise is None else noise.share,
        kappa=_kappa(was, becomes, len(values)) if few else float("nan"),
        p_shift=marginal_p(was, becomes, question, len(values)) if few and compared else float("nan"),
        moves=_moves(was[differs], becomes[differs], values) if few else (),
        values=_counts(field.column, was, becomes, values) if few else (),
        means=means,
        unit=unit,
        noise_pairs=0 if noise is None else noise.pairs,
        noise_from="" if noise is None else noise.origin,
    )


def _moves(was: Numbers, becomes: Numbers, values: Sequence[Any]) -> tuple[Move, ...]:
    pairs, times = np.unique(was * len(values) + becomes, return_counts=True)
    moves = [
        Move(values[pair // len(values)], values[pair % len(values)], count)
        for pair, count in zip(pairs.tolist(), times.tolist(), strict=True)
    ]
    return tuple(sorted(moves, key=lambda move: -move.rows))


def _counts(column: Column, was: Numbers, becomes: Numbers, values: Sequence[Any]) -> tuple[tuple[Any, int, int], ...]:
    old, new = (np.bincount(codes, minlength=len(values)).tolist() for codes in (was, becomes))
    lines = [line for line in zip(values, old, new, strict=True) if line[1] or line[2]]
    if column.categories:
        order = {value: at for at, value in enumerate(column.categories)}
        return tuple(sorted(lines, key=lambda line: order.get(line[0], len(order))))
    if all(isinstance(line[0], (int, float)) for line in lines):
        return tuple(sorted(lines))
    return tuple(sorted(lines, key=lambda line: -line[1]))


def _kappa(was: Numbers, becomes: Numbers, classes: int) -> float:
    total = len(was)
    if not total:
        return float("nan")
    shares = [np.bincount(codes, minlength=classes) / total for codes in (was, becomes)]
    by_chance = float(shares[0] @ shares[1])
    agreed = float(np.mean(was == becomes))
    return (agreed - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def _means(field: FieldValues, was: Numbers, becomes: Numbers) -> tuple[tuple[float, float] | None, str]:
    """Return the means of both sides' values and their unit. None for categories and booleans."""
    kinds = {type(value) for value in field.values} - {NoneType}
    if not kinds or bool in kinds or field.column.kind is Kind.CATEGORY:
        return None, ""
    if kinds <= {int, float}:
        measured, unit = [np.nan if value is None else float(value) for value in field.values], ""
    elif kinds <= {str} or kinds <= {list, dict}:
        measured = [np.nan if value is None else float(len(value)) for value in field.values]
        unit = "characters" if str in kinds else "items"
    else:
        return None, ""
    by_code = np.array(measured)
    means = []
    for codes in (was, becomes):
        known = by_code[codes]
        known = known[~np.isnan(known)]
        if not len(known):
            return None, ""
        means.append(float(known.mean()))
    return (means[0], means[1]), unit
