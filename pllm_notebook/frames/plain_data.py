"""Nested answers as plain data that dataframe libraries, Parquet and JSON can use."""

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
    """A list with a hash, for the same reason. It pickles as a list."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (), None, iter(self)


def plain_data(value: Any) -> Any:
    """Convert a value to JSON data: models and dataclasses to dicts by field, tuples and sets to lists.

    An Enum becomes its value, a date or time ISO 8601 text, a Decimal text, and bytes base64. A model with its own
    serializers is converted by them. The items of a set are sorted.

    Returns:
        None, bool, int, float or str, or a dict or list of these. Dicts and lists are hashable.
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
        # A set has no order, but equal answers should become equal data.
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
