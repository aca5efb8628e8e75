"""The fields of a type with a known list of values, for which each option can have a probability.

Derived only from the JSON schema, so that the result is the same for a type and for its schema in the registry.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args

from pydantic_core import to_json

from pllm_notebook.schema.fields import OutputField, bare, fields_of

__all__ = ["MAX_OPTIONS", "ChoiceField", "ChoiceKind", "choices_of", "names_without_choices", "spelling"]

ChoiceKind = Literal["choice", "yes_no", "scale", "labels"]

MAX_OPTIONS = 255
"""Maximum number of options of a field, which is the limit of decision endpoints."""

# Maximum depth of nested models, since a definition may contain itself.
_DEPTH = 8
_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")


@dataclass(frozen=True, slots=True)
class ChoiceField:
    """A field with a known list of values.

    Attributes:
        name: Its name, `outer.inner` inside a nested model; "" for a type without fields.
        at: Position of the field (of the outermost one) among those of the type.
        path: Its names in JSON, from the root; () for a type without fields.
        kind: "yes_no" for a bool, "scale" for a bounded int, "labels" for a list of one of these, otherwise "choice".
        options: The options as JSON values in declared order, including None if the field may be null. For "labels",
            the options of one item.
        description: The user's description. "" for none.
        steps: Attribute and JSON name for each level inside a nested model.
        notes: The user's description of each option, "" for none. () if there are none.
    """

    name: str
    at: int
    path: tuple[str, ...]
    kind: ChoiceKind
    options: tuple[Any, ...]
    description: str
    steps: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def value(self, parts: Sequence[Any]) -> Any:
        """Return the field's value from the result of `OutputType.field_values`, or None if a parent is missing."""
        value = parts[self.at]
        for attribute, name in self.steps:
            if value is None:
                return None
            value = value.get(name) if isinstance(value, Mapping) else getattr(value, attribute, None)
        return value

    def codes(self, value: Any, known: dict[bytes, int]) -> tuple[int, ...]:
        """Return the option indexes of a value: one, or those of a list's items.

        Args:
            value: A value of this field.
            known: Index of each option by its spelling. Values made by validators are added to it.
        """
        if self.kind != "labels":
            return (known.setdefault(spelling(value), len(known)),)
        if not isinstance(value, list | tuple | set | frozenset):
            return ()
        return tuple({known.setdefault(spelling(one), len(known)): None for one in value})

    def positions(self) -> dict[bytes, int]:
        """Return the index of each option by its spelling, in a new dictionary."""
        return {spelling(option): at for at, option in enumerate(self.options)}


def choices_of(kind: Any, fields: Sequence[OutputField] | None, schema: Mapping[str, Any]) -> tuple[ChoiceField, ...]:
    """Return the fields with a known list of values, in declared order, including those of nested models.

    Args:
        kind: The type.
        fields: Its fields. None for a type without fields.
        schema: Pydantic's JSON schema of the type.
    """
    return tuple(place for place in _leaves(kind, fields, schema) if place.options)


def names_without_choices(
    kind: Any, fields: Sequence[OutputField] | None, schema: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the names of the fields without a known list of values, in declared order; `outer.inner` inside a model.

    Args:
        kind: As for `choices_of`.
        fields: As for `choices_of`.
        schema: As for `choices_of`.
    """
    return tuple(place.name for place in _leaves(kind, fields, schema) if not place.options)


def _leaves(kind: Any, fields: Sequence[OutputField] | None, schema: Mapping[str, Any]) -> list[ChoiceField]:
    """Return all fields that are not nested models. Fields without a known list of values have no options."""
    reader = _Reader(schema.get("$defs", {}))
    if fields is None:
        found = reader.options(schema)
        return [] if found is None else [ChoiceField("", 0, (), *found, "", (), reader.notes(schema, kind, found[1]))]
    properties = reader.resolved(schema).get("properties", {})
    made: list[ChoiceField] = []
    for at, field in enumerate(fields):
        place = ChoiceField(field.name, at, (field.alias,), "choice", (), field.description)
        made += reader.field(place, field.annotation, properties.get(field.alias, {}))
    return made


def spelling(value: Any) -> bytes:
    """Return an option as JSON, which is equal only for equal values (1 differs from True and "1")."""
    return to_json(value, serialize_unknown=True, inf_nan_mode="constants")


class _Reader:
    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Resolve references, which may be circular."""
        for _ in range(_DEPTH):
            if "$ref" in schema:
                schema = self._definitions.get(str(schema["$ref"]).rpartition("/")[2], {})
            elif len(schema.get("allOf", ())) == 1:
                schema = schema["allOf"][0]
            else:
                break
        return schema

    def field(self, place: ChoiceField, annotation: Any, schema: Mapping[str, Any]) -> Iterator[ChoiceField]:
        """Yield a field, or the fields of a nested model."""
        found = self.options(schema)
        if found is not None:
            notes = self.notes(schema, annotation, found[1])
            yield ChoiceField(place.name, place.at, place.path, *found, place.description, place.steps, notes)
            return
        inner = self.resolved(schema)
        if "properties" not in inner or len(place.path) >= _DEPTH:
            yield place
            return
        own = fields_of(bare(annotation), {**inner, "$defs": self._definitions}) or ()
        known = {field.alias: field for field in own}
        for alias, below in inner["properties"].items():
            field = known.get(alias)
            name = alias if field is None else field.name
            described = below.get("description", "") if field is None else field.description
            next_place = ChoiceField(f"{place.name}.{name}", place.at, (*place.path, alias), "choice", (), described,
                                (*place.steps, (name, alias)))  # fmt: skip
            yield from self.field(next_place, None if field is None else field.annotation, below)

    def options(self, schema: Mapping[str, Any]) -> tuple[ChoiceKind, tuple[Any, ...]] | None:
        """Return kind and options, or None for a schema without a list of values or with too many."""
        schema = self.resolved(schema)
        if schema.get("type") == "array" and "prefixItems" not in schema:
            items = self._one(schema.get("items") or {})
            found = None if items is None or None in items[1] else ("labels", items[1])
        else:
            found = self._one(schema)
        return None if found is None or not 0 < len(found[1]) <= MAX_OPTIONS else found  # type: ignore[return-value]

    def notes(self, schema: Mapping[str, Any], annotation: Any, options: Sequence[Any]) -> tuple[str, ...]:
        """Return the description of each option: that of its branch, or the docstring of the Enum member."""
        known = dict(self._branch_notes(schema, 0)) | dict(_member_notes(annotation))
        made = tuple(known.get(spelling(option), "") for option in options)
        return made if any(made) else ()

    def _branch_notes(self, schema: Mapping[str, Any], depth: int) -> Iterator[tuple[bytes, str]]:
        schema = self.resolved(schema)
        for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), schema.get("items")):
            if isinstance(branch, Mapping) and depth < _DEPTH:
                if "const" in branch and isinstance(branch.get("description"), str):
                    yield spelling(branch["const"]), inspect.cleandoc(branch["description"])
                yield from self._branch_notes(branch, depth + 1)

    def _one(self, schema: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]] | None:
        schema = self.resolved(schema)
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else list(schema["enum"])
            if any(isinstance(value, list | dict) for value in values):
                return None
            two = len(values) == 2 and all(isinstance(value, bool) for value in values)
            return "yes_no" if two else "choice", _distinct(values)
        branches = schema.get("anyOf") or schema.get("oneOf")
        if branches:
            return self._union([self._one(branch) for branch in branches])
        kind = schema.get("type")
        if kind == "boolean":
            return "yes_no", (True, False)
        if kind == "null":
            return "choice", (None,)
        return _whole_numbers(schema) if kind == "integer" else None

    def _union(self, found: Sequence[tuple[str, tuple[Any, ...]] | None]) -> tuple[str, tuple[Any, ...]] | None:
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return None
        kinds = {kind for kind, options in known if options != (None,)}
        values = [value for _, options in known for value in options]
        # Null always comes last, regardless of the order of the union.
        options = _distinct([value for value in values if value is not None] + [None] * (None in values))
        return (kinds.pop() if len(kinds) == 1 else "choice"), options


def _member_notes(annotation: Any) -> Iterator[tuple[bytes, str]]:
    """Yield the docstrings of the Enum members that have their own.

    A string below a member in the source does not count: Python drops it, and a notebook's source cannot always be
    found, so the same question would get different keys.
    """
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        for member in annotation:
            if isinstance(own := vars(member).get("__doc__"), str):
                yield spelling(member.value), inspect.cleandoc(own)
    for inner in get_args(annotation):
        yield from _member_notes(inner)


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple({spelling(value): value for value in values}.values())


def _is_number(value: Any) -> bool:
    # In an old draft of JSON schema, `exclusiveMinimum` is a bool.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole_numbers(schema: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]] | None:
    # A user's own `json_schema_extra` may hold anything.
    known: dict[str, Any] = {name: one for name in _BOUNDS if _is_number(one := schema.get(name))}
    low = max([known[name] + step for name, step in (("minimum", 0), ("exclusiveMinimum", 1)) if name in known],
              default=None)  # fmt: skip
    high = min([known[name] - step for name, step in (("maximum", 0), ("exclusiveMaximum", 1)) if name in known],
               default=None)  # fmt: skip
    if low is None or high is None or not high - low < 10 * MAX_OPTIONS:
        return None
    step = known.get("multipleOf") or 1
    return "scale", tuple(n for n in range(math.ceil(low), math.floor(high) + 1) if n % step == 0)
