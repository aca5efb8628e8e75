"""Generated JSON values that follow a schema, in the schema's property order."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from pllm_notebook.sim.draws import Draws
from pllm_notebook.sim.hints import with_hints
from pllm_notebook.sim.strings import FORMATS, MARK, free_text, matching

__all__ = ["Maker", "compile_schema", "violate"]

# Generates one value. The number is the depth of references; it ends the recursion in a schema.
Maker = Callable[[Draws, int], Any]

_DEEP = 3  # From this depth on: no optional properties, no free items, the branch that ends soonest.
_DEEPEST = 24  # A schema that never ends yields null at this depth.


def compile_schema(schema: Mapping[str, Any]) -> Maker:
    """Return a function that generates values of *schema*.

    Supports everything that Pydantic emits: references (also recursive), anyOf, oneOf, allOf (merged), enum,
    const, formats, bounds, prefixItems, maps, and Google's `nullable` and upper-case types. Patterns are best
    effort (see `strings.matching`); `not`, `if`, `contains` and `dependent…` are ignored. Bounds in a description
    ("minimum: 1"), for providers that do not accept them in a schema, are followed too, as a model would.
    """
    return _Compiler(schema).node(schema)


def violate(value: Any) -> Any:
    """Return *value* with every first-level part replaced by a value of the wrong type."""
    if isinstance(value, dict) and value:
        return {name: MARK if isinstance(part, (list, dict)) else [MARK, {}] for name, part in value.items()}
    return MARK if isinstance(value, (list, dict)) else [MARK, {}]


class _Compiler:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._made: dict[str, Maker | None] = {}

    def node(self, schema: Any) -> Maker:
        if not isinstance(schema, Mapping) or not schema:
            return _anything
        if "$ref" in schema:
            return self._reference(schema)
        if "const" in schema:
            constant = schema["const"]
            return lambda draws, depth: constant
        if schema.get("enum"):
            choices = list(schema["enum"])
            return lambda draws, depth: choices[draws.below(len(choices))]
        if "allOf" in schema:
            return self.node(self._merged(schema))
        branches = schema.get("anyOf") or schema.get("oneOf")
        if branches:
            return self._union(list(branches))
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._union([{**schema, "type": one} for one in kind])
        if schema.get("nullable"):
            return self._union([{**schema, "nullable": False}, {"type": "null"}])
        kind = kind.lower() if isinstance(kind, str) else _guess(schema)
        schema = with_hints(schema, kind)
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema)
        if kind == "string":
            return _string(schema)
        if kind in ("integer", "number"):
            return _number(schema, kind == "integer")
        if kind == "boolean":
            return lambda draws, depth: bool(draws.below(2))
        if kind == "null":
            return lambda draws, depth: None
        return _anything

    def _reference(self, schema: Mapping[str, Any]) -> Maker:
        ref = schema["$ref"]
        if ref not in self._made:
            self._made[ref] = None
            self._made[ref] = self.node(self._resolve(ref))
        made = self._made

        def follow(draws: Draws, depth: int) -> Any:
            # Looked up on use: a recursive reference is compiled before its target.
            maker = made[ref]
            return maker(draws, depth + 1) if maker is not None and depth < _DEEPEST else None

        return follow

    def _resolve(self, ref: str) -> Any:
        found: Any = self._root
        for part in ref.lstrip("#/").split("/") if ref not in ("#", "#/") else ():
            part = part.replace("~1", "/").replace("~0", "~")
            found = found.get(part, {}) if isinstance(found, Mapping) else {}
        return found

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        merged = {name: value for name, value in schema.items() if name != "allOf"}
        for part in schema["allOf"]:
            part = self._resolve(part["$ref"]) if "$ref" in part else part
            for name, value in part.items():
                if name == "properties":
                    merged[name] = {**merged.get(name, {}), **value}
                elif name == "required":
                    merged[name] = [*merged.get(name, ()), *value]
                else:
                    merged.setdefault(name, value)
        return merged

    def _union(self, branches: list[Any]) -> Maker:
        kinds = {_kind(branch) for branch in branches}
        if kinds - {"null"} == {"number", "string"}:
            # The schema of a Pydantic Decimal. Text that is not a number matches the schema but fails the type's own
            # check, and decimal places may fail it too.
            branches = [_as_decimal(branch) for branch in branches if _kind(branch) != "string" or "pattern" in branch]
        elif kinds - {"null"} == {"integer", "string"}:
            # The schema of a Pydantic ByteSize: a matching text is another way to write the number.
            branches = [branch for branch in branches if not _may_be_number(branch)]
        makers = [self.node(branch) for branch in branches]
        ends = min(range(len(branches)), key=lambda index: _weight(branches[index]))

        def choose(draws: Draws, depth: int) -> Any:
            return makers[ends if depth >= _DEEP else draws.below(len(makers))](draws, depth)

        return choose

    def _object(self, schema: Mapping[str, Any]) -> Maker:
        properties = schema.get("properties") or {}
        order = [name for name in schema.get("propertyOrdering") or properties if name in properties]
        required = set(schema.get("required") or ())
        parts = [(name, self.node(properties[name]), name in required) for name in order]
        more = schema.get("additionalProperties")
        if isinstance(more, Mapping) or (more is not False and not parts):
            return self._map(schema, parts, self.node(more))

        def make(draws: Draws, depth: int) -> dict[str, Any]:
            return {
                name: maker(draws, depth)
                for name, maker, needed in parts
                if needed or (depth < _DEEP and draws.below(8))
            }

        return make

    def _map(self, schema: Mapping[str, Any], parts: list[tuple[str, Maker, bool]], maker: Maker) -> Maker:
        least = schema.get("minProperties", 0)
        most = schema.get("maxProperties", max(least, 3))
        names = self.node({"type": "string", **schema["propertyNames"]}) if "propertyNames" in schema else _name

        def make(draws: Draws, depth: int) -> dict[str, Any]:
            value = {name: part(draws, depth) for name, part, needed in parts if needed or depth < _DEEP}
            wanted = least if depth >= _DEEP else max(least, 1 + draws.below(most) if most else 0)
            for _ in range(wanted * 4):
                if len(value) >= wanted:
                    break
                value.setdefault(str(names(draws, depth)), maker(draws, depth + 1))
            return value

        return make

    def _array(self, schema: Mapping[str, Any]) -> Maker:
        fixed = [self.node(part) for part in schema.get("prefixItems") or ()]
        items = schema.get("items", {})
        least = max(schema.get("minItems", 0), len(fixed))
        most = max(schema.get("maxItems", max(least, 3)), least)
        if items is False or (fixed and "items" not in schema):
            most = least = len(fixed)
        maker = self.node(items) if items is not False else _anything
        unique = bool(schema.get("uniqueItems"))

        def make(draws: Draws, depth: int) -> list[Any]:
            value = [part(draws, depth) for part in fixed]
            wanted = least if depth >= _DEEP else least + draws.below(min(most - least, 3) + 1)
            for _ in range((wanted - len(value)) * 4):
                if len(value) >= wanted:
                    break
                item = maker(draws, depth)
                if not unique or item not in value:
                    value.append(item)
            return value

        return make


def _as_decimal(branch: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a branch for a Decimal: integers if the bounds allow, since the schema omits the limit on decimals."""
    if _kind(branch) != "number" or "multipleOf" in branch:
        return branch
    bounds = with_hints(branch, "number")
    low = max((bounds[name] for name in ("minimum", "exclusiveMinimum") if name in bounds), default=-math.inf)
    high = min((bounds[name] for name in ("maximum", "exclusiveMaximum") if name in bounds), default=math.inf)
    return {**branch, "type": "integer"} if high - low >= 2 else branch


def _may_be_number(branch: Mapping[str, Any]) -> bool:
    """Return whether a branch is a string whose pattern matches a number."""
    pattern = with_hints(branch, "string").get("pattern") if _kind(branch) == "string" else None
    try:
        return pattern is not None and re.search(pattern, "7") is not None
    except re.error:
        return False


def _weight(branch: Any) -> int:
    # Order of the branches of a union by how soon they end: null, plain values, then containers.
    if not isinstance(branch, Mapping) or branch.get("type") == "null":
        return 0
    if "$ref" in branch:
        return 4
    heavy = {"object": 3, "array": 2 if not branch.get("minItems") else 5}
    return heavy.get(str(branch.get("type")).lower(), 1 if "anyOf" not in branch else 3)


def _kind(branch: Any) -> Any:
    return branch.get("type") if isinstance(branch, Mapping) else None


def _guess(schema: Mapping[str, Any]) -> str:
    for keyword, kind in (
        ("properties", "object"),
        ("additionalProperties", "object"),
        ("items", "array"),
        ("prefixItems", "array"),
        ("pattern", "string"),
        ("format", "string"),
        ("minimum", "number"),
        ("maximum", "number"),
    ):
        if keyword in schema:
            return kind
    return ""


def _anything(draws: Draws, depth: int) -> Any:
    return free_text(draws, 0, None)


def _name(draws: Draws, depth: int) -> str:
    return f"key_{draws.hex(3)}"


def _string(schema: Mapping[str, Any]) -> Maker:
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    form = FORMATS.get(str(schema.get("format", "")))
    pattern = schema.get("pattern")
    if form is not None:
        return lambda draws, depth: form(draws)
    if pattern:
        return lambda draws, depth: matching(pattern, draws, least, most) or free_text(draws, least, most)
    if "contentEncoding" in schema:
        return lambda draws, depth: FORMATS["base64"](draws)
    return lambda draws, depth: free_text(draws, least, most)


def _number(schema: Mapping[str, Any], whole: bool) -> Maker:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    floor = max((bound for bound in (low, above) if bound is not None), default=None)
    roof = min((bound for bound in (high, below) if bound is not None), default=None)
    # Values lie on a grid, so that they are short when printed and one step away from an exclusive bound.
    grid = schema.get("multipleOf") or (1 if whole else _grid(floor, roof))
    if floor is None:
        floor = 0 if roof is None or roof > 0 else roof - 100 * grid
    if roof is None:
        roof = floor + 100 * (grid if whole or "multipleOf" in schema else 1)
    if grid == 1:
        first, last = math.ceil(floor), math.floor(roof)  # Exact, even beyond the range of floats.
    else:
        first, last = math.ceil(floor / grid - 1e-9), math.floor(roof / grid + 1e-9)
    first += above is not None and first * grid <= above
    last -= below is not None and last * grid >= below
    if first > last:
        middle = round((floor + roof) / 2) if whole else (floor + roof) / 2
        return lambda draws, depth: middle
    count = last - first + 1
    if whole:
        return lambda draws, depth: int((first + draws.below(count)) * grid)
    digits = max(0, -math.floor(math.log10(grid)) + 2)
    return lambda draws, depth: round((first + draws.below(count)) * grid, digits) + 0.0


def _grid(floor: float | None, roof: float | None) -> float:
    room = roof - floor if floor is not None and roof is not None else 0
    return 0.01 if room <= 0 or room >= 1 else 10.0 ** (math.floor(math.log10(room)) - 2)
