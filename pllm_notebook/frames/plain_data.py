"""Nested answers as plain data: what dataframe libraries, Parquet and JSON can use."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json, to_jsonable_python

__all__ = ["as_json_text", "plain_data"]


class _Object(dict[str, Any]):
    """A dict with a hash, for `drop_duplicates` and `groupby`. It pickles as a dict."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (), None, None, iter(self.items())


class _Items(list[Any]):
    """A list with a hash, likewise. It pickles as a list."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (), None, iter(self)


def plain_data(value: Any) -> Any:
    """Return a value as JSON has it: models and dataclasses as dicts, by field; tuples and sets as lists.

    An Enum is its value, a date or moment its ISO 8601 text, a Decimal its text, bytes base64. A model that has
    serializers of its own is written by them. The items of a set are sorted.

    Returns:
        None, bool, int, float, str; a dict or a list of these, which also have a hash.
    """
    return _hashed(_plain(value))


def as_json_text(value: Any) -> str | None:
    """Return a value as JSON text, None for None."""
    if value is None:
        return None
    return to_json(_plain(value), inf_nan_mode="constants").decode("utf-8", "replace")


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, (set, frozenset)):
        # A set has no order, and two equal answers should be equal data.
        return sorted((_plain(item) for item in value), key=lambda item: (str(type(item)), str(item)))
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return to_jsonable_python(
        value, by_alias=False, bytes_mode="base64", inf_nan_mode="constants", serialize_unknown=True
    )


def _hashed(value: Any) -> Any:
    if type(value) is dict:
        return _Object((str(key), _hashed(item)) for key, item in value.items())
    return _Items(map(_hashed, value)) if type(value) is list else value
