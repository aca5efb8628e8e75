"""Conversion of replies from the form requested from the provider to the type's own form.

A plan is a value that is called with one decoded reply and returns the JSON that Pydantic
expects. `None` is the plan that changes nothing. A plan passes values of an unexpected form
unchanged, so that validation reports the error. Decoded values are changed in place.
`fit` is the inverse, for answers that are shown to a model: its caller verifies the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic_core import to_json

from pllm_notebook.schema.schema_match import matches

__all__ = ["EachPlan", "FitPlan", "MapPlan", "PropertiesPlan", "RefPlan", "TuplePlan", "UnionPlan"]


class FitPlan(Protocol):
    """Converts one decoded value back."""

    def __call__(self, value: Any) -> Any:
        """Return *value* in the type's own form."""

    def fit(self, value: Any) -> Any:
        """Return a value of the type's own form, converted to the requested form. Never changes *value*."""


def _fitted(plan: FitPlan | None, value: Any) -> Any:
    return value if plan is None else plan.fit(value)


@dataclass(frozen=True, slots=True)
class PropertiesPlan:
    """An object with converted properties."""

    properties: tuple[tuple[str, FitPlan], ...]

    def __call__(self, value: Any) -> Any:
        """Convert the properties back."""
        if isinstance(value, dict):
            for name, plan in self.properties:
                if name in value:
                    value[name] = plan(value[name])
        return value

    def fit(self, value: Any) -> Any:
        """Convert the properties that have another requested form."""
        if not isinstance(value, dict):
            return value
        return value | {name: plan.fit(value[name]) for name, plan in self.properties if name in value}


@dataclass(frozen=True, slots=True)
class EachPlan:
    """An array with converted items, or a free-form map with converted values."""

    item: FitPlan

    def __call__(self, value: Any) -> Any:
        """Convert every item back."""
        if isinstance(value, list):
            return [self.item(item) for item in value]
        if isinstance(value, dict):
            return {key: self.item(item) for key, item in value.items()}
        return value

    def fit(self, value: Any) -> Any:
        """Convert every item."""
        if isinstance(value, list):
            return [self.item.fit(item) for item in value]
        if isinstance(value, dict):
            return {key: self.item.fit(item) for key, item in value.items()}
        return value


@dataclass(frozen=True, slots=True)
class MapPlan:
    """A dict that was requested as a list of `{"key", "value"}`. The last of equal keys wins."""

    item: FitPlan | None

    def __call__(self, value: Any) -> Any:
        """Return the dict, or *value* itself if it is not such a list."""
        restored: dict[str, Any] = {}
        if isinstance(value, list):
            for entry in value:
                if not isinstance(entry, dict) or entry.keys() != {"key", "value"}:
                    return value
                key = entry["key"]
                name = key if isinstance(key, str) else to_json(key).decode()
                restored[name] = entry["value"] if self.item is None else self.item(entry["value"])
            return restored
        if isinstance(value, dict) and self.item is not None:
            # A server without enforcement may have answered with the dict itself.
            return {key: self.item(item) for key, item in value.items()}
        return value

    def fit(self, value: Any) -> Any:
        """Return the list of the dict's entries."""
        if not isinstance(value, dict):
            return value
        return [{"key": key, "value": _fitted(self.item, item)} for key, item in value.items()]


@dataclass(frozen=True, slots=True)
class TuplePlan:
    """A tuple that was requested as an object `{"item_1", "item_2", …}`."""

    items: tuple[FitPlan | None, ...]

    def __call__(self, value: Any) -> Any:
        """Return the items in order, or *value* itself if it is not such an object."""
        if isinstance(value, dict):
            names = [f"item_{n}" for n in range(1, len(self.items) + 1)]
            present = [name for name in names if name in value]
            if set(value) != set(present) or present != names[: len(present)]:
                return value
            value = [value[name] for name in present]
        if isinstance(value, list) and len(value) <= len(self.items):
            return [item if plan is None else plan(item) for item, plan in zip(value, self.items, strict=False)]
        return value

    def fit(self, value: Any) -> Any:
        """Return the object of the tuple's items."""
        if not isinstance(value, list) or len(value) > len(self.items):
            return value
        fitted = zip(value, self.items, strict=False)
        return {f"item_{n}": _fitted(plan, item) for n, (item, plan) in enumerate(fitted, 1)}


@dataclass(frozen=True, slots=True)
class RefPlan:
    """The plan of a definition, looked up when called because definitions may contain themselves."""

    name: str
    table: Mapping[str, FitPlan | None] = field(compare=False, repr=False)

    def __call__(self, value: Any) -> Any:
        """Convert *value* back by its definition's plan."""
        plan = self.table[self.name]
        return value if plan is None else plan(value)

    def fit(self, value: Any) -> Any:
        """Convert *value* by its definition's plan."""
        return _fitted(self.table[self.name], value)


@dataclass(frozen=True, slots=True)
class UnionPlan:
    """A union, converted by the first branch whose fitted schema matches *value*."""

    branches: tuple[tuple[Mapping[str, Any], FitPlan | None], ...]
    defs: Mapping[str, Any] = field(compare=False, repr=False)

    def __call__(self, value: Any) -> Any:
        """Convert *value* back by its branch's plan."""
        for shape, plan in self.branches:
            if matches(value, shape, self.defs):
                return value if plan is None else plan(value)
        return value

    def fit(self, value: Any) -> Any:
        """Convert *value* to the first branch whose form it then has."""
        for shape, plan in self.branches:
            fitted = _fitted(plan, value)
            if matches(fitted, shape, self.defs):
                return fitted
        return value
