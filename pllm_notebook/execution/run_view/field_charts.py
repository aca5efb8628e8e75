"""Small histograms of the answers' fields: category counts, and distributions of numbers and lengths."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.execution.run_view.sample_row import field_values_of, shown_text
from pllm_notebook.schema import OutputType

__all__ = ["FieldCharts"]

_MOST_FIELDS = 12
_MOST_BARS = 8
# Maximum number of distinct values that are counted by value; further values are only counted together.
_MOST_DISTINCT = 1_000
_BINS = 12
_BEYOND = 1e100  # larger numbers are ignored, since their sums and bins would not be finite
# Maximum number of values kept for each field; of more values, a random sample is kept.
_MOST_NUMBERS = 4_096


class FieldKind(NamedTuple):
    """The kind of chart of a field.

    Attributes:
        kind: "categories" or "numbers".
        of: Unit of the numbers: "" for the values, "characters" or "items" for lengths.
        known: The declared categories, in order.
    """

    kind: str
    of: str = ""
    known: tuple[Any, ...] = ()


class FieldCharts:
    """The charts of one run's fields, filled as answers come.

    Args:
        output: The type, None for plain text.
    """

    def __init__(self, output: OutputType | None) -> None:
        self._output = output
        fields = None if output is None else output.fields
        if output is None:
            self._charts: list[_Chart] = [_Numbers("answer", "characters")]
        elif fields is None:
            self._charts = [_chart("answer", _kind_of(output.json_schema, output.json_schema))]
        else:
            properties = _resolved(output.json_schema, output.json_schema).get("properties", {})
            self._charts = [
                _chart(field.name, _kind_of(properties.get(field.alias, {}), output.json_schema))
                for field in fields[:_MOST_FIELDS]
            ]

    def count(self, values: Sequence[Any]) -> None:
        """Count some answers."""
        charts, output = self._charts, self._output
        taken = [field_values_of(output, value) for value in values]
        for at, chart in enumerate(charts):
            chart.count([one[at] for one in taken if at < len(one)])

    def charts(self) -> list[dict[str, Any]]:
        """Return the charts as data (see `RunViewModel`), without those that have no counted values yet."""
        return [chart.data() for chart in self._charts if chart.counted]


class _Chart(ABC):
    """One field's chart."""

    kind = ""

    def __init__(self, name: str, of: str = "") -> None:
        self.name, self.of = shown_text(name), of
        self.counted = self.missing = 0

    def count(self, values: list[Any]) -> None:
        """Count some values; None is a missing one."""
        present = [value for value in values if value is not None]
        self.counted += len(values)
        self.missing += len(values) - len(present)
        self.add(present)

    @abstractmethod
    def add(self, values: list[Any]) -> None:
        """Count values that are not missing."""

    def data(self) -> dict[str, Any]:
        """Return the chart as data."""
        return {
            "name": self.name, "kind": self.kind, "of": self.of, "counted": self.counted, "missing": self.missing,
        }  # fmt: skip


class _Categories(_Chart):
    kind = "categories"

    def __init__(self, name: str, known: tuple[Any, ...]) -> None:
        super().__init__(name)
        self._counts: Counter[str] = Counter({_label(value): 0 for value in known})
        self._known = len(self._counts)
        self._others = 0

    def add(self, values: list[Any]) -> None:
        counts = self._counts
        for value in values:
            label = _label(value)
            if label in counts or len(counts) < _MOST_DISTINCT:
                counts[label] += 1
            else:
                self._others += 1

    def data(self) -> dict[str, Any]:
        counts = list(self._counts.items())
        if self._known > _MOST_BARS or len(counts) > self._known:
            counts = self._counts.most_common()
        bars = [{"label": label, "count": count} for label, count in counts[:_MOST_BARS]]
        more = self._others + sum(count for _, count in counts[_MOST_BARS:])
        return super().data() | {"bars": bars, "more": more}


class _Numbers(_Chart):
    kind = "numbers"

    def __init__(self, name: str, of: str = "") -> None:
        super().__init__(name, of)
        self._kept = np.empty(0)
        # Exact counts of the values while all are integers and few are distinct; otherwise None.
        self._exact: Counter[float] | None = None if of else Counter()
        self._random = np.random.default_rng(0)
        self._seen, self._sum = 0, 0.0
        self._low, self._high = math.inf, -math.inf

    def add(self, values: list[Any]) -> None:
        numbers = [number for value in values if abs(number := self._number(value)) < _BEYOND]
        if not numbers:
            return
        self._seen += len(numbers)
        self._sum += sum(numbers)
        self._low, self._high = min(self._low, *numbers), max(self._high, *numbers)
        if self._exact is not None:
            self._exact.update(numbers)
            if len(self._exact) > _BINS or not all(map(float.is_integer, self._exact)):
                self._exact = None
        self._keep(np.array(numbers))

    def data(self) -> dict[str, Any]:
        if not self._seen:
            return super().data() | {"bars": [], "low": None, "high": None, "mean": None}
        low, high, exact = self._low, self._high, self._exact
        if exact is not None and high - low < _BINS:
            values = [low + at for at in range(int(high - low) + 1)]
            bars = [{"label": _number_label(value), "count": exact[value]} for value in values]
        else:
            # The bins of integers have an integer width.
            width = math.ceil((high - low + 1) / _BINS) if np.all(self._kept == np.round(self._kept)) else 0
            bounds = (low, low + width * _BINS) if width and width < 2**40 else (low, high) if high > low else None
            counts, edges = np.histogram(self._kept, _BINS, bounds)
            scale = self._seen / len(self._kept)
            bars = [
                {"label": _span_label(a, b, whole=bool(width)), "count": round(int(count) * scale)}
                for count, (a, b) in zip(counts, pairwise(edges), strict=True)
            ]
            while len(bars) > 1 and not bars[-1]["count"]:
                bars.pop()
        return super().data() | {"bars": bars, "low": low, "high": high, "mean": self._sum / self._seen}

    def _keep(self, numbers: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        """Keep a uniform random sample of all numbers."""
        room = _MOST_NUMBERS - len(self._kept)
        self._kept = np.concatenate([self._kept, numbers[:room]])
        rest = numbers[room:]
        taken = rest[self._random.random(len(rest)) < _MOST_NUMBERS / self._seen]
        self._kept[self._random.integers(0, len(self._kept), len(taken))] = taken

    def _number(self, value: Any) -> float:
        try:
            return float(len(value) if self.of else value)
        except (TypeError, ValueError, OverflowError):  # a value of another type, made by a validator
            return math.nan


def _chart(name: str, kind: FieldKind) -> _Chart:
    return _Categories(name, kind.known) if kind.kind == "categories" else _Numbers(name, kind.of)


def _label(value: Any) -> str:
    value = value.value if isinstance(value, Enum) else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown_text(str(value))[:60]


def _span_label(low: float, high: float, *, whole: bool) -> str:
    if whole and high - low == 1:
        return _number_label(low)
    return f"{_number_label(low)} to {_number_label(high - 1 if whole else high)}"


def _number_label(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) or abs(number) >= 1_000 else f"{number:.3g}"


def _resolved(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Resolve a schema's references, and reduce an optional type to the type itself."""
    for _ in range(10):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            schema = whole.get("$defs", {}).get(reference.rpartition("/")[2], {})
            continue
        options = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
        if len(options) != 1:
            break
        schema = options[0]
    return schema


def _kind_of(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> FieldKind:
    schema = _resolved(schema, whole)
    if "enum" in schema:
        return FieldKind("categories", known=tuple(schema["enum"]))
    if "const" in schema:
        return FieldKind("categories", known=(schema["const"],))
    match schema.get("type"):
        case "boolean":
            return FieldKind("categories", known=(True, False))
        case "integer" | "number":
            return FieldKind("numbers")
        case "array" | "object":
            return FieldKind("numbers", "items")
        case _:
            return FieldKind("numbers", "characters")
