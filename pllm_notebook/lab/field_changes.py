"""What changed in each field between two sides: how many rows, in which direction, and how its distribution moved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from types import NoneType
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.lab.paired_tests import effective_count, holm, marginal_p, share_interval

__all__ = ["FieldChange", "FieldValues", "Move", "SamplingNoise", "coded", "field_changes"]

Numbers = np.ndarray[Any, np.dtype[Any]]

_MOST_CLASSES = 30
"""A field with more values than this has no table of moves and no test of its distribution."""


class Move(NamedTuple):
    """One direction of change.

    Attributes:
        old: The value that rows had.
        new: The value that they have.
        rows: How many.
    """

    old: Any
    new: Any
    rows: int


class SamplingNoise(NamedTuple):
    """What asking the same question twice changes in one field.

    Attributes:
        share: Of the pairs of answers to one row, those whose values differ.
        pairs: How many.
        origin: Where they are from: "samples", "recheck of" a day.
    """

    share: float
    pairs: int
    origin: str


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field on both sides, over the rows that have an answer on both.

    Attributes:
        field: Its name, without a run's prefix.
        compared: Rows with an answer on both sides.
        changed: Those whose values differ.
        churn: Share of them, 0 to 1; NaN for none.
        low: Lower end of the 95 % interval of the churn (Wilson), equal rows being one observation (Kish). It assumes
            that the rows are a sample of those that you care about; for these rows alone the churn is exact.
        high: Upper end.
        noise: Share of pairs of answers to one row, by one question, whose values differ: what asking twice changes.
            None where neither question has samples, or was rechecked.
        kappa: Agreement of both sides beyond chance (Cohen, 1960); NaN for free text, and for a single value.
        p_shift: p that the distribution has not moved (Bhapkar), corrected for the number of fields (Holm); NaN for
            free text. It assumes many rows, and is rough where fewer than some 30 have changed.
        moves: Directions of change, the most frequent first; of free text none.
        values: Each value with its count in the old and in the new answers, for a field of few values.
        means: Mean of the old and of the new answers: of numbers, else of characters or items. None without any.
        unit: What the means count: "" for the values themselves.
        noise_pairs: Pairs that `noise` is known from.
        noise_from: What they are: "samples", "recheck of" a day.
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
        column: Of the new side.
        old: Values of the old side, None for a missing one.
        new: Of the new side.
        codes: Both sides as places among the distinct values, each of shape (n,).
        values: The distinct values.
        differs: Whether both sides have an answer, and another value.
    """

    column: Column
    old: Sequence[Any]
    new: Sequence[Any]
    codes: tuple[Numbers, Numbers]
    values: list[Any]
    differs: Numbers

    @classmethod
    def of(cls, column: Column, old: Sequence[Any], new: Sequence[Any], both: Numbers) -> FieldValues:
        """Return them for two columns; *both* says which lines have an answer on both sides."""
        was, becomes, values = coded(old, new)
        return cls(column, old, new, (was, becomes), values, (was != becomes) & both)


# Of which no two values of different types are equal.
_PLAIN = ({str, int, float, NoneType}, {str, bool, NoneType})


def coded(old: Sequence[Any], new: Sequence[Any]) -> tuple[Numbers, Numbers, list[Any]]:
    """Return both columns as places among their distinct values, and these values in order of appearance."""
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
    # True is 1 to a dictionary, and another answer.
    return (bool, cell) if isinstance(cell, bool) else cell


def field_changes(
    fields: dict[str, FieldValues], both: Numbers, question: Numbers, noise: dict[str, SamplingNoise]
) -> list[FieldChange]:
    """Return the change of each field.

    Args:
        fields: By name.
        both: Whether each line has an answer on both sides.
        question: Of each line, equal for equal rows.
        noise: What is known of each field's own.
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
    means, unit = _means(field)
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


def _means(field: FieldValues) -> tuple[tuple[float, float] | None, str]:
    """Return the mean of both sides' values, and what it counts; of categories and truth values none."""
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
    for codes in field.codes:
        known = by_code[codes]
        known = known[~np.isnan(known)]
        if not len(known):
            return None, ""
        means.append(float(known.mean()))
    return (means[0], means[1]), unit
