"""Literals and Enums: lists of allowed values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.exceptions import UnsupportedSchemaError
from pllm_notebook.schema.constraints import add_constraints
from pllm_notebook.schema.provider_support import Dialect

__all__ = ["fit_enum"]

_TYPE_NAMES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "array",
}


def fit_enum(raw: Mapping[str, Any], path: str, dialect: Dialect) -> dict[str, Any]:
    """Fit a schema that has `enum` or `const`.

    Raises:
        UnsupportedSchemaError: If a value is not plain but must be.
    """
    values = [raw["const"]] if "const" in raw else list(raw["enum"])
    if not values:
        raise UnsupportedSchemaError(path, dialect.taker, "it has no values to choose from. Give it at least one.")
    if any(isinstance(value, dict | list) for value in values) and not dialect.untyped:
        reason = "some of its values are lists or dicts. Give it values of text, and look up the others by them."
        raise UnsupportedSchemaError(path, dialect.taker, reason)
    if not dialect.typed_enums:
        schema = {"type": raw["type"]} if "type" in raw else {}
        schema |= {"const": raw["const"]} if "const" in raw and dialect.const else {"enum": values}
        return add_constraints(schema, raw, dialect)
    groups: dict[str, list[Any]] = {}
    for value in values:
        groups.setdefault(_TYPE_NAMES[type(value)], []).append(value)
    if set(groups) == {"integer", "number"}:
        groups = {"number": values}
    branches = [_one_type(kind, listed, dialect) for kind, listed in groups.items()]
    described = {key: raw[key] for key in ("description", "default", "examples") if key in raw}
    if len(branches) > 1:
        return add_constraints({"anyOf": branches}, described, dialect)
    note = branches[0].pop("description", "")
    return add_constraints(branches[0], described, dialect, note)


def _one_type(kind: str, values: list[Any], dialect: Dialect) -> dict[str, Any]:
    if kind == "null":
        return {"type": "null"}
    if kind == "boolean" and dialect.scalar_enums:
        described = {} if len(values) == 2 else {"description": f"Always {str(values[0]).lower()}"}
        return {**described, "type": "boolean"}
    return {"type": kind, "enum": values}
