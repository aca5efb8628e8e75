"""Known labels in a form that can be compared with answers: values and classes."""

from __future__ import annotations

import datetime as dt
import difflib
import numbers
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.dtypes import Column, Kind

__all__ = ["check_kind", "check_known", "check_single", "classes_of", "has_known_values", "plain_values"]

_SHOWN = 5
# Stack frames from the warnings here to the caller's line: check_known, evaluate, `evaluate` of the rows or the frame,
# and `evaluate` of the run or the accessor.
_LEVEL = 5


def plain_values(values: Iterable[Any]) -> list[Any]:
    """Convert values so that equal meanings are equal: an Enum to its value, a date to its midnight."""
    return [
        value.value
        if isinstance(value, Enum)
        else dt.datetime.combine(value, dt.time())
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime)
        else value
        for value in values
    ]


def check_single(name: str, values: Sequence[Any]) -> None:
    """Check that all values are single values.

    Raises:
        UsageError: For a list, a dict or a nested model.
    """
    for value in values:
        if not _is_single(value):
            kind = next((one for one in (dict, list) if isinstance(value, one)), type(value))
            raise UsageError(
                f"{name!r} holds values of type {kind.__name__}, and evaluate compares single values: text, "
                f"numbers, booleans, dates. Compare one of its fields, or a column that you derive from it."
            )


def _is_single(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True


def check_known(column: Column, named: str, truths: Sequence[Any], answers: Sequence[Any]) -> None:
    """Check that labels are possible values of the field, or answers that occurred, and warn about others.

    Args:
        column: The column of the answers.
        named: Name of the labels.
        truths: The labels of the compared rows.
        answers: The answers of the compared rows.

    Raises:
        UsageError: If the field's values are known and no label is one of them.
    """
    known = _categories(column)
    allowed = set(known or answers)
    strange = Counter(truth for truth in truths if truth not in allowed)
    if strange.total() == len(truths):
        what = f"the values are {_some(known)}" if known else f"the answers are {_some(dict.fromkeys(answers))}"
        text = (
            f"No label in {named!r} is {'a value of' if known else 'equal to any answer in'} {column.name!r}: "
            f"the labels are {_some(strange)}, {what}.{_near(strange, allowed)}"
        )
        if known:
            raise UsageError(text)
        warnings.warn(text, stacklevel=_LEVEL)
    elif known and strange:
        warnings.warn(
            f"{strange.total():,} of {len(truths):,} labels in {named!r} are not values of {column.name!r} and count "
            f"as wrong: {_some(strange)}.{_near(strange, allowed)}",
            stacklevel=_LEVEL,
        )


def check_kind(column: Column, named: str, truths: Sequence[Any]) -> None:
    """Check that labels can be values of a field, before answers to compare them with are paid for.

    Args:
        column: The column of the answers.
        named: Name of the labels.
        truths: The labels.

    Raises:
        UsageError: If no label can be a value of the field.
    """
    if has_known_values(column):
        check_known(column, named, truths, ())
        return
    kinds, what = _HOLDS.get(column.kind, (object, ""))
    if truths and not any(isinstance(truth, kinds) for truth in truths):
        raise UsageError(
            f"No label in {named!r} can be a value of {column.name!r}, which holds {what}: the labels are "
            f"{_some({repr(truth): truth for truth in truths}.values())}. Nothing was sent."
        )


_HOLDS: dict[Kind, tuple[type, str]] = {
    Kind.INTEGER: (numbers.Number, "numbers"),
    Kind.REAL: (numbers.Number, "numbers"),
    Kind.TEXT: (str, "text"),
}


def has_known_values(column: Column) -> bool:
    """Return whether the type of an answer lists its values."""
    return bool(_categories(column))


def classes_of(column: Column, values: Iterable[Any]) -> list[Any]:
    """Return the distinct values in order: the type's own first, then others, sorted if possible, then None."""
    categories, seen = _categories(column), dict.fromkeys(values)
    others = [value for value in seen if value not in categories and value is not None]
    with suppress(TypeError):  # values of several types stay in order of appearance
        others = sorted(others)
    return [*(value for value in categories if value in seen), *others, *([None] if None in seen else [])]


def _categories(column: Column) -> tuple[Any, ...]:
    return (False, True) if column.kind is Kind.BOOLEAN else column.categories


def _some(values: Iterable[Any]) -> str:
    shown = [repr(value) for value in values]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else "")


def _near(strange: Iterable[Any], known: Iterable[Any]) -> str:
    """Return a guess at the value that a label meant, ignoring case and type; "" if none is close."""
    folded = {str(value).strip().casefold(): value for value in known}
    for label in strange:
        near = difflib.get_close_matches(str(label).strip().casefold(), folded, n=1)
        if near:
            return f" Did you mean {folded[near[0]]!r} for {label!r}?"
    return ""
