"""Converts Pydantic's JSON schema to a form that one provider accepts, with a plan to convert replies back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import to_json

from pllm_notebook.exceptions import UnsupportedSchemaError
from pllm_notebook.schema.constraints import add_constraints, constraints_prose, has_constraints, lines
from pllm_notebook.schema.enums import fit_enum
from pllm_notebook.schema.fit_plans import EachPlan, FitPlan, MapPlan, PropertiesPlan, RefPlan, TuplePlan, UnionPlan
from pllm_notebook.schema.number_checks import is_unsayable
from pllm_notebook.schema.provider_support import Dialect
from pllm_notebook.schema.reversible import Branch, is_reversible
from pllm_notebook.schema.schema_prose import keyword_prose, with_prose
from pllm_notebook.schema.size_limits import check_limits, check_recursion, count_unions, find_cycle

__all__ = ["Fit", "fit"]

# One copy of a definition is cheap, but copies within copies could multiply.
_MAX_COPIES = 100


class Fit(NamedTuple):
    """A fitted schema.

    Attributes:
        schema: Schema for the provider; its root is an object.
        plan: The conversion of replies, None if nothing was converted. Applied before unwrapping.
        wrapped: Whether the type's own value is the root's property `value`.
    """

    schema: dict[str, Any]
    plan: FitPlan | None
    wrapped: bool


class _Part(NamedTuple):
    schema: dict[str, Any]
    plan: FitPlan | None = None
    note: str = ""  # words that a `$ref` cannot have, for the description of its parent


def fit(schema: Mapping[str, Any], dialect: Dialect) -> Fit:
    """Fit a JSON schema made by Pydantic to a provider.

    Args:
        schema: The schema. Never changed.
        dialect: Capabilities of the provider.

    Raises:
        UnsupportedSchemaError: If the schema cannot be expressed, or replies could not be converted back.
    """
    check_recursion(schema, dialect)
    fitted = _Fitter(schema, dialect).root()
    if dialect.max_unions is not None and count_unions(fitted.schema) > dialect.max_unions:
        # An optional field does not need null in its type as well.
        fitted = _Fitter(schema, dialect, spare_nulls=True).root()
    check_limits(fitted.schema, dialect)
    number = _unsayable(fitted.schema)
    if number is not None:
        reason = f"it names {number!r:.60}, which is beyond 64 bits, and no request can say such a number. "
        raise UnsupportedSchemaError("", dialect.taker, reason + "Name it as text.")
    return fitted


def _unsayable(part: Any) -> int | None:
    """Return an integer in a schema that is beyond 64 bits, None if there is none."""
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, list):
        return next((found for one in part if (found := _unsayable(one)) is not None), None)
    return part if is_unsayable(part) else None


class _Fitter:
    """One walk over one schema. Never changes its input."""

    def __init__(self, schema: Mapping[str, Any], dialect: Dialect, *, spare_nulls: bool = False) -> None:
        self._raw_root = {key: value for key, value in schema.items() if key != "$defs"}
        self._raw_defs: Mapping[str, Any] = schema.get("$defs", {})
        self._dialect = dialect
        self._spare_nulls = spare_nulls
        self._defs: dict[str, dict[str, Any]] = {}
        self._plans: dict[str, FitPlan | None] = {}
        self._copies = 0
        self._unions: list[tuple[str, tuple[Branch, ...]]] = []

    def root(self) -> Fit:
        raw = self._raw_root
        if set(raw) - {"title", "description"} == {"$ref"}:
            raw = {**self._raw_defs[_name(raw)], **{key: raw[key] for key in raw if key != "$ref"}}
        wrapped = not raw.get("properties") or "anyOf" in raw or "oneOf" in raw
        part = self._wrap(raw) if wrapped else self._node(raw, "")
        # Checked at the end: a union may contain definitions that were not yet fitted when it was visited.
        for path, branches in self._unions:
            if not is_reversible(branches, self._defs, self._plans):
                raise self._unsupported(
                    path,
                    "its alternatives would look alike once its dicts and tuples are written the way "
                    f"{self._dialect.taker} takes them. Put each alternative into a model with a Literal field "
                    "that tells which it is.",
                )
        schema = dict(part.schema)
        if part.note:
            schema["description"] = lines(schema.get("description", ""), part.note)
        if self._defs:
            schema["$defs"] = {name: self._defs[name] for name in self._raw_defs if name in self._defs}
        return Fit(schema, part.plan, wrapped)

    def _wrap(self, raw: Mapping[str, Any]) -> _Part:
        part = self._node(raw, "")
        plan = None if part.plan is None else PropertiesPlan((("value", part.plan),))
        return _Part(self._object_of({"value": part.schema}, ["value"]), plan, part.note)

    def _node(self, raw: Any, path: str) -> _Part:
        if not isinstance(raw, Mapping):
            return self._untyped({}, path) if raw else self._never(path)
        if "$ref" in raw:
            return self._ref(raw, path)
        if "allOf" in raw:
            return self._all_of(raw, path)
        if "anyOf" in raw or "oneOf" in raw:
            return self._union(raw, raw.get("anyOf") or raw["oneOf"], path)
        if "const" in raw or "enum" in raw:
            return _Part(fit_enum(raw, path, self._dialect))
        kind = raw.get("type")
        if isinstance(kind, list):
            rest = {key: value for key, value in raw.items() if key not in ("type", "description")}
            branches = [{**rest, "type": one} for one in kind]
            return self._union({key: raw[key] for key in ("description",) if key in raw}, branches, path)
        if kind == "object":
            return self._object(raw, path)
        if kind == "array":
            return self._array(raw, path)
        if kind in ("string", "integer", "number", "boolean", "null"):
            return _Part(self._finish({"type": kind}, raw))
        return self._untyped(raw, path)

    # Definitions

    def _ref(self, raw: Mapping[str, Any], path: str) -> _Part:
        name = _name(raw)
        definition = self._raw_defs[name]
        style = self._dialect.ref_siblings
        beside = {key: value for key, value in raw.items() if key not in ("$ref", "title", "default")}
        if not beside.get("description") and not has_constraints(beside):
            beside = {}
        # Plain values such as enums do not count towards any limit, so they are always inlined.
        inline = style == "inline" or (style == "parent" and "properties" not in definition)
        if (
            beside
            and inline
            and self._copies < _MAX_COPIES
            and find_cycle(self._alone(name), required_only=False) is None
        ):
            self._copies += 1
            return self._node({**definition, **beside}, path)
        plan = self._define(name, path)
        if style == "keep":
            return _Part(self._finish({"$ref": raw["$ref"]}, raw), plan)
        return _Part({"$ref": raw["$ref"]}, plan, with_prose(beside.get("description", ""), constraints_prose(beside)))

    def _alone(self, name: str) -> dict[str, Any]:
        return {"$ref": f"#/$defs/{name}", "$defs": self._raw_defs}

    def _define(self, name: str, path: str) -> FitPlan | None:
        if name not in self._defs:
            self._defs[name], self._plans[name] = {}, None  # ends the recursion of a recursive type
            part = self._node(self._raw_defs[name], path)
            self._defs[name], self._plans[name] = part.schema, part.plan
            if part.note:
                self._defs[name] = {**part.schema, "description": part.note}
        return RefPlan(name, self._plans) if self._converts(self._raw_defs[name], set()) else None

    def _converts(self, raw: Any, seen: set[str]) -> bool:
        """Return whether anything inside *raw* is converted. Schemas without conversions stay on the fast path."""
        if isinstance(raw, list):
            return any(self._converts(item, seen) for item in raw)
        if not isinstance(raw, Mapping):
            return False
        if "$ref" in raw and isinstance(raw["$ref"], str):
            name = _name(raw)
            if name in seen:
                return False
            seen.add(name)
            return self._converts(self._raw_defs[name], seen)
        if not self._dialect.tuples and raw.get("prefixItems"):
            return True
        if not self._dialect.free_maps and raw.get("type") == "object" and not raw.get("properties"):
            return True
        inside = [*raw.get("properties", {}).values(), *raw.get("prefixItems", ())]
        inside += [raw[key] for key in ("items", "additionalProperties", "anyOf", "oneOf", "allOf") if key in raw]
        return any(self._converts(item, seen) for item in inside)

    # Unions and enums

    def _all_of(self, raw: Mapping[str, Any], path: str) -> _Part:
        rest = {key: value for key, value in raw.items() if key != "allOf"}
        if len(raw["allOf"]) == 1 and isinstance(raw["allOf"][0], Mapping):
            return self._node({**raw["allOf"][0], **rest}, path)
        raise self._unsupported(path, "its schema joins several others by allOf. Write one type that has it all.")

    def _union(self, raw: Mapping[str, Any], branches: Sequence[Any], path: str) -> _Part:
        fitted: list[_Part] = []
        notes = []
        for branch in branches:
            part = self._node(branch, path)
            if part.note:
                notes.append(part.note)
            inner = part.schema.get("anyOf") if part.plan is None and set(part.schema) == {"anyOf"} else None
            for one in [part] if inner is None else map(_Part, inner):
                if not any(one[:2] == other[:2] for other in fitted):
                    fitted.append(one)
        description = lines(with_prose(raw.get("description", ""), constraints_prose(raw)), *notes)
        if len(fitted) == 1:
            only = fitted[0].schema
            if "$ref" in only:
                return _Part(only, fitted[0].plan, description)
            return _Part({**only, "description": description} if description else only, fitted[0].plan)
        schema: dict[str, Any] = {"description": description} if description else {}
        if self._dialect.defaults and "default" in raw:
            schema["default"] = raw["default"]
        schema["anyOf"] = [part.schema for part in fitted]
        if all(part.plan is None for part in fitted):
            return _Part(schema)
        choices = tuple(Branch(part.schema, part.plan) for part in fitted)
        self._unions.append((path, choices))
        return _Part(schema, UnionPlan(choices, self._defs))

    # Objects, dicts, arrays, tuples

    def _object(self, raw: Mapping[str, Any], path: str) -> _Part:
        properties = raw.get("properties", {})
        extra = raw.get("additionalProperties")
        if properties:
            return self._model(raw, path)
        if raw.get("patternProperties") or (isinstance(extra, Mapping) and extra):
            return self._map(raw, path)
        if "properties" in raw and not extra:
            raise self._unsupported(path, "it has no fields. Give it at least one.")
        if self._dialect.untyped:
            return _Part(self._finish({"type": "object", "additionalProperties": True}, raw))
        raise self._unsupported(
            path,
            f"it is a dict of anything, and {self._dialect.taker} needs to know what to write. "
            "Write dict[str, str] (or another type of value), or a model with fields.",
        )

    def _model(self, raw: Mapping[str, Any], path: str) -> _Part:
        required = raw.get("required", ())
        properties: dict[str, Any] = {}
        plans: list[tuple[str, FitPlan]] = []
        notes: list[str] = []
        for name, inner in raw["properties"].items():
            if self._spare_nulls and name not in required:
                inner = _without_null(inner)
            part = self._node(inner, f"{path}.{name}" if path else name)
            properties[name] = part.schema
            if part.plan is not None:
                plans.append((name, part.plan))
            if part.note:
                notes.append(f"`{name}`: {part.note}")
        needed = [name for name in properties if name in required or self._dialect.all_required]
        schema = self._object_of(properties, needed)
        extra = raw.get("additionalProperties")
        if not self._dialect.closed and extra is not None:
            if isinstance(extra, Mapping):
                schema["additionalProperties"] = self._node(extra, f"{path}{{}}").schema
            else:
                schema["additionalProperties"] = extra
        return _Part(self._finish(schema, raw, *notes), PropertiesPlan(tuple(plans)) if plans else None)

    def _object_of(self, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        if self._dialect.closed:
            schema["additionalProperties"] = False
        if self._dialect.ordering:
            # Gemini writes required properties first unless the schema sets the order.
            schema["propertyOrdering"] = list(properties)
        return schema

    def _map(self, raw: Mapping[str, Any], path: str) -> _Part:
        patterns: Mapping[str, Any] = raw.get("patternProperties", {})
        extra = raw.get("additionalProperties")
        values = [*patterns.values(), *([extra] if isinstance(extra, Mapping) and extra else [])]
        part = self._node(values[0] if len(values) == 1 else {"anyOf": values}, f"{path}{{}}")
        if self._dialect.free_maps:
            schema = {"type": "object", "additionalProperties": part.schema}
            words = []
            if "propertyNames" in raw and "propertyNames" in self._dialect.keywords:
                schema["propertyNames"] = self._keys(raw["propertyNames"])
            elif "propertyNames" in raw:
                words = [keyword_prose("propertyNames", self._keys(raw["propertyNames"]))]
            if patterns:
                words.append(keyword_prose("patternProperties", patterns))
            plan = None if part.plan is None else EachPlan(part.plan)
            return _Part(self._finish(schema, raw, part.note, words=words), plan)
        names = raw.get("propertyNames", {"pattern": next(iter(patterns))} if len(patterns) == 1 else {})
        key = self._node({"type": "string", **self._keys(names)}, path)
        entry = self._object_of({"key": key.schema, "value": part.schema}, ["key", "value"])
        lengths = {"minItems": raw.get("minProperties"), "maxItems": raw.get("maxProperties")}
        renamed = {name: value for name, value in raw.items() if name not in ("minProperties", "maxProperties")}
        renamed |= {name: value for name, value in lengths.items() if value is not None}
        return _Part(self._finish({"type": "array", "items": entry}, renamed, part.note), MapPlan(part.plan))

    def _keys(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the schema of a dict's keys, which are always text in JSON."""
        keys = {**(self._raw_defs[_name(raw)] if "$ref" in raw else raw)}
        if "const" in keys:
            keys["enum"] = [keys.pop("const")]
        if "enum" in keys:
            keys["enum"] = [key if isinstance(key, str) else to_json(key).decode() for key in keys["enum"]]
        return {**{key: keys[key] for key in keys if key not in ("title", "$ref")}, "type": "string"}

    def _array(self, raw: Mapping[str, Any], path: str) -> _Part:
        if raw.get("prefixItems"):
            return self._tuple(raw, path)
        items = raw.get("items")
        if not items:
            if self._dialect.untyped:
                return _Part(self._finish({"type": "array"}, raw))
            raise self._unsupported(
                path,
                f"it is a list of anything, and {self._dialect.taker} needs to know what to write. "
                "Write list[str] (or another type of item).",
            )
        part = self._node(items, f"{path}[]")
        schema = {"type": "array", "items": part.schema}
        return _Part(self._finish(schema, raw, part.note), None if part.plan is None else EachPlan(part.plan))

    def _tuple(self, raw: Mapping[str, Any], path: str) -> _Part:
        parts = [self._node(item, f"{path}[{n}]") for n, item in enumerate(raw["prefixItems"])]
        plans = tuple(part.plan for part in parts)
        notes = [f"item {n}: {part.note}" for n, part in enumerate(parts, 1) if part.note]
        if self._dialect.tuples:
            schema: dict[str, Any] = {"type": "array", "prefixItems": [part.schema for part in parts]}
            return _Part(self._finish(schema, raw, *notes), TuplePlan(plans) if any(plans) else None)
        if raw.get("items"):
            raise self._unsupported(path, "it is a tuple of open length with a fixed start. Write a model, or a list.")
        names = [f"item_{n}" for n in range(1, len(parts) + 1)]
        needed = names if self._dialect.all_required else names[: raw.get("minItems", len(names))]
        schema = self._object_of({name: part.schema for name, part in zip(names, parts, strict=True)}, needed)
        unsized = {key: value for key, value in raw.items() if key not in ("minItems", "maxItems")}
        return _Part(self._finish(schema, unsized, *notes), TuplePlan(plans))

    def _finish(
        self, schema: dict[str, Any], raw: Mapping[str, Any], *notes: str, words: Sequence[str] = ()
    ) -> dict[str, Any]:
        return add_constraints(schema, raw, self._dialect, *notes, words=words)

    def _untyped(self, raw: Mapping[str, Any], path: str) -> _Part:
        if self._dialect.untyped:
            return _Part(self._finish({}, {key: raw[key] for key in ("description", "default") if key in raw}))
        raise self._unsupported(
            path,
            f"its type is Any, and {self._dialect.taker} needs to know what to write. "
            "Write the type it has: str, a union such as str | float, or a model.",
        )

    def _never(self, path: str) -> _Part:
        raise self._unsupported(path, "no value is allowed there. Leave the field out.")

    def _unsupported(self, path: str, reason: str) -> UnsupportedSchemaError:
        return UnsupportedSchemaError(path, self._dialect.taker, reason)


def _name(raw: Mapping[str, Any]) -> str:
    name: str = raw["$ref"].rpartition("/")[2]
    return name


def _without_null(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    if "anyOf" not in raw or raw.get("default", 0) is not None:
        return raw
    branches = [branch for branch in raw["anyOf"] if branch != {"type": "null"}]
    rest = {key: value for key, value in raw.items() if key != "anyOf"}
    return {**branches[0], **rest} if len(branches) == 1 else {**rest, "anyOf": branches}
