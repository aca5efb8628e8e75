"""Majority votes, field by field: a decision among several answers without another call.

Agreement of independent answers is the oldest measure of how sure they are (self-consistency: Wang
et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models", 2022). A tie goes
to the value that came first in the order of the samples, so that the same answers always give the
same result.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

from pydantic_core import to_json

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.schema import OutputType

__all__ = ["Rule", "Vote", "VoteCount", "identity"]

Rule = Literal["majority", "median", "union", "intersection"]
_RULES = get_args(Rule)


@dataclass(frozen=True, slots=True)
class Vote:
    """Rules for combining the values of one field: `decide=Vote(numbers="median", lists="union")`.

    Attributes:
        numbers: For int, float and Decimal: the most common value, or the "median" (for an even number of
            integers the lower middle one, so that it is one of the values given).
        lists: For lists, tuples and sets: the most common whole list, the "union" in order of first
            appearance, or the "intersection" in the order of the first answer.
        fields: Rules for single fields by name, which override the two above.

    Raises:
        UsageError: For an unknown rule. Nothing was sent.
    """

    numbers: Literal["majority", "median"] = "majority"
    lists: Literal["majority", "union", "intersection"] = "majority"
    fields: Mapping[str, Rule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = {"numbers": (self.numbers, ("majority", "median")), "lists": (self.lists, ("majority", *_RULES[2:]))}
        given |= {f"fields[{name!r}]": (rule, _RULES) for name, rule in self.fields.items()}
        for where, (rule, known) in given.items():
            if rule not in known:
                raise UsageError(
                    f"Vote: {where} is one of {', '.join(map(repr, known))}, not {rule!r}. Nothing was sent."
                )

    def check(self, output: OutputType | None) -> None:
        """Refuse names that are not fields of *output*.

        Raises:
            UsageError: Nothing was sent.
        """
        names = [] if output is None or output.fields is None else [one.name for one in output.fields]
        for name in self.fields:
            if name not in names:
                raise UsageError(
                    f"Vote: there is no field {name!r} among {names}.{guess(name, names)} Nothing was sent."
                )

    def rule(self, name: str, values: Sequence[Any]) -> Rule:
        """Return the rule for a field, by its name and the type of its values."""
        wanted: Rule = self.fields.get(name, "majority")
        present = [value for value in values if value is not None]
        if name not in self.fields and present:
            if all(_is_number(value) for value in present):
                wanted = self.numbers
            elif all(isinstance(value, _LISTS) for value in present):
                wanted = self.lists
        return wanted


class VoteCount:
    """Counts of the answers to one question.

    Args:
        output: The type of the answers. None for plain text.
        values: The answers, in the order of the samples; at least one.

    Attributes:
        agreement: For each field (or the single value), the share of answers with its most common value.
        whole: Share of answers equal to the most common whole answer.
    """

    def __init__(self, output: OutputType | None, values: Sequence[Any]) -> None:
        self.values = values
        self._output = output
        self._names = ("",) if output is None or output.fields is None else tuple(one.name for one in output.fields)
        rows = [(value,) if output is None else output.field_values(value) for value in values]
        self._columns = list(zip(*rows, strict=True))
        self._identities = [[identity(value) for value in column] for column in self._columns]
        self._wholes: list[tuple[bytes, ...]] = [()] * len(values)
        if self._columns:
            self._wholes = list(zip(*self._identities, strict=True))
        self.agreement = tuple(_share(column) for column in self._identities)
        self.whole = _share(self._wholes)

    @property
    def unanimous(self) -> bool:
        """Whether all answers are the same."""
        return len(set(self._wholes)) == 1

    @property
    def leader(self) -> int:
        """Index of the first answer that is equal to the most common whole answer."""
        return self._wholes.index(_most_common(self._wholes))

    def distinct(self) -> list[tuple[int, int]]:
        """Return each distinct answer as (index of its first occurrence, count), in order."""
        return [(self._wholes.index(one), times) for one, times in Counter(self._wholes).items()]

    def index(self, value: Any) -> int | None:
        """Return the index of the first answer equal to *value*, or None."""
        parts = (value,) if self._output is None else self._output.field_values(value)
        whole = tuple(map(identity, parts))
        return self._wholes.index(whole) if whole in self._wholes else None

    def majority(self, vote: Vote, context: Any = None) -> tuple[Any, int | None]:
        """Return the answer made of each field's majority, and the index of the sample equal to it.

        If the type refuses that combination, return the most common whole answer instead.
        """
        chosen = []
        for name, column, identities in zip(self._names, self._columns, self._identities, strict=True):
            rule = vote.rule(name, column)
            most = column[identities.index(_most_common(identities))]
            chosen.append(most if rule == "majority" else _JOIN[rule](column, most))
        whole = tuple(map(identity, chosen))
        if whole in self._wholes:
            at = self._wholes.index(whole)
            return self.values[at], at
        if self._output is None:
            return chosen[0], None
        try:
            return self._output.made_of(chosen, context), None
        except ValueError:
            at = self.leader
            return self.values[at], at


def identity(value: Any) -> bytes:
    """Return bytes that are equal for two equal values of one field, and otherwise differ as their JSON does.

    The order of a set or of a mapping's keys does not count, nor do trailing zeros of a Decimal or the sign of zero.
    """
    if isinstance(value, (set, frozenset)):
        return b"\x00".join(sorted(map(identity, value)))
    return to_json(_plain(value), serialize_unknown=True, inf_nan_mode="constants")


def _plain(value: Any) -> Any:
    """Return a value with the same JSON, except that equal parts at any depth become the same part."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value or 0.0
    if isinstance(value, Decimal):
        return _plain_decimal(value)
    if (serializer := getattr(type(value), "__pydantic_serializer__", None)) is not None:
        # As in JSON: aliases, computed fields and the caller's serializers count.
        return _plain(serializer.to_python(value, by_alias=True, warnings=False))
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value, key=identity)}
    if isinstance(value, (list, tuple)):
        return list(map(_plain, value))
    if isinstance(value, (set, frozenset)):
        return list(map(_plain, sorted(value, key=identity)))
    return value


def _plain_decimal(value: Decimal) -> Decimal:
    """Return an equal Decimal without trailing zeros behind the point. `normalize` would round to 28 digits."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):  # infinite, or not a number
        return value
    if not value:
        return Decimal(0)
    kept = len(digits)
    while not digits[kept - 1]:
        kept -= 1
    first = next(at for at, digit in enumerate(digits) if digit)
    exponent += len(digits) - kept
    zeros = exponent if 0 < exponent <= _MOST_ZEROS else 0
    return Decimal((sign, (*digits[first:kept], *(0,) * zeros), exponent - zeros))


_MOST_ZEROS = 100
"""A Decimal with more zeros before the point is written with an exponent."""

_LISTS = (list, tuple, set, frozenset)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _most_common(values: Sequence[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]  # on a tie, the one that came first


def _share(values: Sequence[Any]) -> float:
    return Counter(values).most_common(1)[0][1] / len(values)


def _median(column: Sequence[Any], most: Any) -> Any:
    present = [value for value in column if value is not None]
    if not present or not all(map(_is_number, present)):
        return most
    return statistics.median_low(present) if all(type(v) is int for v in present) else statistics.median(present)


def _union(column: Sequence[Any], most: Any) -> Any:
    lists = [value for value in column if isinstance(value, _LISTS)]
    if not lists:
        return most
    items = {identity(item): item for value in lists for item in value}
    return type(lists[0])(items.values())


def _intersection(column: Sequence[Any], most: Any) -> Any:
    lists = [value for value in column if isinstance(value, _LISTS)]
    if not lists:
        return most
    shared = set.intersection(*({identity(item) for item in value} for value in lists))
    return type(lists[0])(item for item in lists[0] if identity(item) in shared)


_JOIN: Mapping[str, Callable[[Sequence[Any], Any], Any]] = {
    "median": _median,
    "union": _union,
    "intersection": _intersection,
}
