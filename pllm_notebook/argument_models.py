"""Pydantic models for user arguments: invalid values are errors of this package, with suggestions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pllm_notebook.exceptions import UsageError, guess, sentence

__all__ = ["ArgumentModel"]

_PREFIX = "Value error, "
_NOTHING = "Nothing was sent."
_LONGEST = 60
# Pydantic's error types for unknown names.
_UNKNOWN = ("extra_forbidden", "no_such_attribute")


class ArgumentModel(BaseModel):
    """A model that refuses unknown names and wrong values with a `UsageError`, on construction and assignment."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _usage_error(type(self), error) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name.startswith("_") or name in type(self).model_fields or hasattr(type(self), name)):
            raise UsageError(f"{_unknown(type(self), name)} {_NOTHING}")
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise _usage_error(type(self), error) from None


def _usage_error(model: type[BaseModel], error: ValidationError) -> UsageError:
    wrong = sorted(error.errors(include_url=False), key=lambda one: one["type"] not in _UNKNOWN)
    parts = [_part(model, dict(one)) for one in wrong]
    # A misspelt required name is also reported as missing: the suggestion is enough.
    guessed = any("Did you mean" in part for part in parts)
    parts = [part for part, one in zip(parts, wrong, strict=True) if not (guessed and one["type"] == "missing")]
    return UsageError(f"{' '.join(parts)} {_NOTHING}")


def _part(model: type[BaseModel], one: dict[str, Any]) -> str:
    place = [each for each in one["loc"] if isinstance(each, int) or each.isidentifier()]
    name, kind = ".".join(map(str, place)), one["type"]
    if kind in _UNKNOWN and len(place) == 1:
        return _unknown(model, name)
    if kind == "missing":
        return f"{model.__name__} needs {name}=."
    if kind == "value_error":
        said = one["msg"].removeprefix(_PREFIX).removesuffix(_NOTHING)
        return sentence(said)
    said = one["msg"][:1].lower() + one["msg"][1:]
    return sentence(f"{model.__name__}: {name}{_shown(one['input'], name)}: {said}")


def _unknown(model: type[BaseModel], name: str) -> str:
    known = list(model.model_fields)
    hint = guess(name, known) or f" There are {', '.join(known)}."
    return f"{model.__name__} has no argument {name!r}.{hint}"


def _shown(value: object, name: str) -> str:
    """Return a wrong value for an error, or "" if it is long or may be a secret."""
    shown = repr(value) if isinstance(value, (str, int, float, bool, type(None))) and "key" not in name else ""
    return f"={shown}" if shown and len(shown) <= _LONGEST else ""
