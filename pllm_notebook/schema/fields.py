"""The fields of a model, dataclass or TypedDict, and their bare types."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

import typing_extensions
from pydantic import AliasChoices, AliasPath, BaseModel, RootModel
from pydantic.fields import FieldInfo

from pllm_notebook.exceptions import UsageError

__all__ = ["OutputField", "bare", "fields_of"]

_QUALIFIERS = (
    typing.Required,
    typing.NotRequired,
    typing_extensions.ReadOnly,
    typing.Final,
    ClassVar,
)


@dataclass(frozen=True, slots=True)
class OutputField:
    """One field of the type: one result column.

    Attributes:
        name: The Python attribute, or the key of a TypedDict.
        alias: Its JSON name.
        annotation: Its type, without the additions of `Annotated`.
        description: The user's description. "" for none.
        required: Whether a reply must have it.
        left: Type of the value after its validators (see `validators.type_after`), which is that of its column.
    """

    name: str
    alias: str
    annotation: Any
    description: str
    required: bool
    left: Any = field(default=None, compare=False)


def bare(kind: Any) -> Any:
    """Return the bare type, without Annotated, Required, NewType and aliases, also inside unions."""
    while True:
        origin = get_origin(kind)
        if origin is Annotated or (origin is not None and origin in _QUALIFIERS):
            kind = get_args(kind)[0]
        elif isinstance(kind, typing_extensions.TypeAliasType):
            kind = kind.__value__
        elif hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        elif origin in (Union, types.UnionType):
            branches = [bare(branch) for branch in get_args(kind)]
            try:
                return reduce(or_, branches)
            except TypeError:  # a forward reference is text, which has no |
                return kind
        else:
            return kind


def fields_of(kind: Any, schema: Mapping[str, Any]) -> tuple[OutputField, ...] | None:
    """Return the fields in declared order, or None for a type without fields.

    Args:
        kind: The type.
        schema: Pydantic's JSON schema of the type.

    Raises:
        UsageError: If a field is not read from one name in the JSON, or is a secret. Nothing was sent.
    """
    if _has_secret(schema):
        raise UsageError(
            f"{getattr(kind, '__name__', 'The type')} has a secret (SecretStr, SecretBytes), which Pydantic writes as "
            f"'**********': a column would hold that in place of the answer. Make it str. Nothing was sent."
        )
    kind = bare(kind)
    declared = _declared(kind)
    if declared is None:
        return None
    if "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    properties: Mapping[str, Any] = schema.get("properties", {})
    required = schema.get("required", ())
    fields = []
    for name, (annotation, info) in declared.items():
        alias = _alias(name, info, properties)
        described = (info.description if info else None) or properties.get(alias, {}).get("description", "")
        fields.append(
            OutputField(name, alias, bare(annotation), inspect.cleandoc(described), alias in required, bare(annotation))
        )
    return tuple(fields)


def _has_secret(schema: Any) -> bool:
    """Return whether a part of a JSON schema is Pydantic's form of a secret."""
    if isinstance(schema, list):
        return any(map(_has_secret, schema))
    if not isinstance(schema, Mapping):
        return False
    is_secret = schema.get("writeOnly") is True and schema.get("format") == "password"
    return is_secret or any(map(_has_secret, schema.values()))


def _declared(kind: Any) -> dict[str, tuple[Any, FieldInfo | None]] | None:
    """Return the fields of a class by name, with annotation and Pydantic's field info."""
    origin = get_origin(kind) or kind
    if not isinstance(origin, type):
        return None
    if issubclass(origin, RootModel):
        return None
    known: Mapping[str, FieldInfo] | None = None
    if issubclass(origin, BaseModel):
        known = origin.model_fields
    elif dataclasses.is_dataclass(origin):
        known = getattr(origin, "__pydantic_fields__", None)
    if known is not None:
        return {
            name: (info.annotation, info)
            for name, info in known.items()
            if info.init is not False and not info.init_var
        }
    if dataclasses.is_dataclass(origin):
        hints = _hints(kind)
        return {f.name: (hints[f.name], _info(hints[f.name], f)) for f in dataclasses.fields(origin) if f.init}
    if typing_extensions.is_typeddict(origin):
        return {name: (hint, _info(hint)) for name, hint in _hints(kind).items()}
    return None


def _hints(kind: Any) -> dict[str, Any]:
    origin: Any = get_origin(kind) or kind
    try:
        hints = typing_extensions.get_type_hints(origin, include_extras=True)
    except NameError:  # a class inside a function, whose names only Pydantic can resolve
        return dict(origin.__annotations__)
    given = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
    if not given:
        return hints
    return {name: _filled(hint, given) for name, hint in hints.items()}


def _filled(hint: Any, given: Mapping[Any, Any]) -> Any:
    """Substitute the arguments of a generic in one of its annotations."""
    if hint in given:
        return given[hint]
    parameters = getattr(hint, "__parameters__", ())
    return hint[tuple(given.get(one, one) for one in parameters)] if parameters else hint


def _info(hint: Any, field: dataclasses.Field[Any] | None = None) -> FieldInfo | None:
    while get_origin(hint) in _QUALIFIERS:
        hint = get_args(hint)[0]
    if field is not None and isinstance(field.default, FieldInfo):
        return field.default
    return next((one for one in get_args(hint)[1:] if isinstance(one, FieldInfo)), None)


def _alias(name: str, info: FieldInfo | None, properties: Mapping[str, Any]) -> str:
    wanted: Any = None if info is None else info.validation_alias or info.alias
    if isinstance(wanted, AliasChoices):
        wanted = next((choice for choice in wanted.choices if isinstance(choice, str)), wanted.choices[0])
    if isinstance(wanted, AliasPath):
        raise UsageError(
            f"Field {name!r} is read from inside another value (AliasPath), so no model can be asked for it. "
            "Give it a plain alias. Nothing was sent."
        )
    return wanted if isinstance(wanted, str) and wanted in properties else name
