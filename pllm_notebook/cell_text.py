"""The contents of a cell of any dataframe library: whether it is missing, its text, and its JSON.

The text is part of the prompt and therefore of the cache key, so the same value has the same text in every library,
dtype and class.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

import orjson

__all__ = ["as_json_value", "as_text", "is_missing"]

_NS_PER_S = 1_000_000_000
_NS_PER_DAY = 86_400 * _NS_PER_S
# numpy's unit codes of dates without a time.
_DAYS = ("Y", "M", "W", "D")
# numpy's classes of possibly masked values, by name, so that `numpy.ma` need not be imported.
_MASKED = ("MaskedArray", "MaskedConstant")


def is_missing(value: Any) -> bool:
    """Return whether *value* is missing: None, NaN of any class, NaT, pandas' NA, or masked by numpy.

    Decided by the value, because dtypes differ: an Arrow column has both NaN and nulls, a numpy column only NaN.
    """
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return False
    if value is None:
        return True
    if kind is float:
        return bool(value != value)
    if isinstance(value, Decimal):
        return value.is_nan()  # a signalling NaN cannot be compared
    if isinstance(value, (str, bytes, Mapping, list, tuple, set, frozenset)):
        return False
    if kind.__name__ == "NAType":  # pandas' NA, whose comparisons are NA again
        return True
    try:
        if kind.__name__ in _MASKED:  # a comparison with itself is masked again, which `bool` treats as False
            return value.shape == () and bool(value.mask)
        if callable(unpack := getattr(value, "as_py", None)):  # Arrow's scalars
            return unpack() is None
        unequal = value != value
        return getattr(unequal, "shape", ()) == () and bool(unequal)
    except Exception:  # a cell whose class raises is not missing
        return False


def as_text(value: Any) -> str:
    """Return one cell as readable text.

    Text is unchanged; booleans are `true` and `false`; numbers are in Python's form (`3`, `3.0`), narrow floats in the
    fewest digits of their width (`0.1`); dates, times and datetimes in ISO 8601; durations as `1 days 02:00:00`; an
    Enum is its value; lists, dicts, arrays and Pydantic models are JSON; bytes base64; anything else is its `str`.
    Missing values must not be passed.
    """
    if type(value) is str:
        return value
    if isinstance(value, Enum):
        return as_text(value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return _duration(_nanoseconds(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) or hasattr(value, "model_dump"):
        return _json(as_json_value(value))
    if _is_numpy(value):
        return _scalar_text(value) if value.shape == () else _json(as_json_value(value))
    plain = _arrow_values(value)
    return str(value) if plain is value else as_text(plain)


def as_json_value(value: Any) -> Any:
    """Return one cell as JSON data: numbers, booleans, lists and objects are kept, a missing value is None."""
    if value is None or type(value) in (str, bool, int):
        return value
    if isinstance(value, Enum):
        return as_json_value(value.value)
    if isinstance(value, float):
        return float(value) if abs(value) < float("inf") else None if value != value else str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): as_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json_value(item) for item in value]
    if isinstance(value, (set, frozenset)):
        # A set has no fixed order, on which a key must not depend.
        return sorted((as_json_value(item) for item in value), key=lambda item: (str(type(item)), str(item)))
    if is_missing(value):
        return None
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return as_text(value)
    if _is_numpy(value):
        return _scalar_data(value) if value.shape == () else [as_json_value(item) for item in value]
    plain = _arrow_values(value)
    return as_text(value) if plain is value else as_json_value(plain)


def _json(data: Any) -> str:
    try:
        return orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # an integer beyond 64 bits, or half a surrogate pair
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _is_numpy(value: Any) -> bool:
    """Return whether *value* is an array or a scalar of numpy, or a dataframe column."""
    return hasattr(value, "shape") and hasattr(getattr(value, "dtype", None), "kind")


def _scalar_text(value: Any) -> str:
    """Return the text of a numpy scalar, or of an array without dimensions."""
    code = value.dtype.kind
    if code == "f" and value.dtype.itemsize != 8:
        return str(value[()])  # numpy's shortest text of that width; as a Python float it would show its binary tail
    if code == "M":
        return _datetime_text(value)
    if code == "m":
        return _duration(int(value.astype("timedelta64[ns]").astype("int64")))
    plain = value.item()
    return as_text(plain) if type(plain) is not type(value) else str(plain)


def _scalar_data(value: Any) -> Any:
    code = value.dtype.kind
    if code == "f":
        number = float(str(value[()]))
        return number if abs(number) < float("inf") else str(value[()])
    return value.item() if code in "iub" else as_json_value(value.item()) if code in "OSUV" else _scalar_text(value)


def _datetime_text(value: Any) -> str:
    """Return a numpy datetime in the form of pandas and Python: without a fraction, or with six or nine digits."""
    if any(value.dtype.str.endswith(f"[{unit}]") for unit in _DAYS):
        return str(value.astype("datetime64[D]"))
    text = str(value.astype("datetime64[ns]"))
    whole, _, fraction = text.partition(".")
    digits = fraction if fraction[6:].strip("0") else fraction[:6]
    return f"{whole}.{digits}" if digits.strip("0") else whole


def _nanoseconds(value: dt.timedelta) -> int:
    # pandas' subclass has nanoseconds in addition to Python's components.
    whole = (value.days * 86_400 + value.seconds) * _NS_PER_S
    return whole + value.microseconds * 1_000 + int(getattr(value, "nanoseconds", 0))


def _duration(nanoseconds: int) -> str:
    days, rest = divmod(nanoseconds, _NS_PER_DAY)
    seconds, fraction = divmod(rest, _NS_PER_S)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    digits = "" if not fraction else f".{fraction:09}" if fraction % 1_000 else f".{fraction // 1_000:06}"
    return f"{days} days {'+' if days < 0 else ''}{clock}{digits}"


def _arrow_values(value: Any) -> Any:
    """Return the Python value of an Arrow scalar, or the list of a column inside a cell; otherwise *value*."""
    for name in ("as_py", "tolist"):
        unpack = getattr(value, name, None)
        if callable(unpack):
            return unpack()
    return value
