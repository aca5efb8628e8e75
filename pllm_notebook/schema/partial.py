"""Values of a type with missing fields: a question was refused, or a part of the answer failed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Optional, cast

from pydantic import BaseModel, TypeAdapter, create_model
from pydantic_core import SchemaValidator, to_json

from pllm_notebook.schema.choices import spelling
from pllm_notebook.schema.fields import bare
from pllm_notebook.schema.output import OutputType
from pllm_notebook.schema.validators import fields_alone

__all__ = ["partial_value"]

Paths = frozenset[tuple[str, ...]]


def partial_value(output: OutputType, value: Mapping[str, Any], missing: Paths) -> Any:
    """Return a value of the type with None in its missing fields, validated in the other fields.

    If the type is not a model, or a validator of the whole refuses the value, the fields are validated without the
    validators of the whole. The value is then a namespace, or a dict for a TypedDict.

    Args:
        output: A type with fields.
        value: Decoded JSON without the missing fields.
        missing: Path of JSON names, from the root, of each missing field.

    Raises:
        ValueError: If a field that is present does not have its type, or breaks a constraint or validator of its own.
    """
    kind = bare(output.kind)
    content = to_json(value)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        try:
            return _without(kind, missing).model_validate_json(content)
        except Exception:  # a validator of the whole needs a missing field
            pass
    fields = output.fields or ()
    absent = {path[0] for path in missing}
    left = frozenset(field.name for field in fields if field.alias in absent)
    given = {f.name: value[f.alias] for f in fields if f.name not in left and f.alias in value}
    alone = _alone(output, left)
    if alone is None:
        annotations = {field.name: field.annotation for field in fields}
        made = {name: TypeAdapter(annotations[name]).validate_json(spelling(one)) for name, one in given.items()}
    else:
        made = alone.validate_json(spelling(given))
    parts = {field.name: made.get(field.name) for field in fields}
    whole = SimpleNamespace(**parts)
    # Fields of a TypedDict are read by key, those of any other type by attribute.
    return parts if _is_mapping(output, parts) else whole


def _is_mapping(output: OutputType, parts: dict[str, Any]) -> bool:
    try:
        output.field_values(parts)
    except AttributeError:
        return False
    return True


@lru_cache(maxsize=64)
def _alone(output: OutputType, missing: frozenset[str]) -> SchemaValidator | None:
    return fields_alone(output.core_schema, missing)


@lru_cache(maxsize=64)
def _without(kind: type[BaseModel], missing: Paths) -> type[BaseModel]:
    """Return a subclass of *kind* in which the missing fields may be None or left out."""
    names = {info.validation_alias or info.alias or name: name for name, info in kind.model_fields.items()}
    made: dict[str, Any] = {}
    for path in missing:
        name = names.get(path[0], path[0])
        below = frozenset(one[1:] for one in missing if one[0] == path[0])
        info = kind.model_fields[name]
        inner = bare(info.annotation)
        annotation: Any = info.annotation
        if () not in below and isinstance(inner, type) and issubclass(inner, BaseModel):
            annotation = _without(inner, below)
        field = copy.copy(info)
        field.default, field.default_factory = None, None
        made[name] = (Optional[annotation], field)  # noqa: UP045
    return cast(type[BaseModel], create_model(kind.__name__, __base__=kind, **made))
