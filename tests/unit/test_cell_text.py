"""Cells: the same value has one text and one JSON, whatever holds it; and what is missing is asked of the value."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from pllm_notebook.cell_text import as_json_value, as_text, is_missing


class Colour(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int


# Golden: each of these texts is part of the keys of answers that people have paid for.
@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("as it is", "as it is"),
        (np.str_("as it is"), "as it is"),
        (True, "true"),
        (np.bool_(False), "false"),
        (3, "3"),
        (2**63 + 1, "9223372036854775809"),
        (np.int64(2**53 + 1), "9007199254740993"),
        (np.uint8(7), "7"),
        (1.5, "1.5"),
        (0.1, "0.1"),
        (np.float64(0.1), "0.1"),
        (np.float32(0.1), "0.1"),
        (np.float16(0.1), "0.1"),
        (1e20, "1e+20"),
        (np.float32(1e20), "1e+20"),
        (decimal.Decimal("1.10"), "1.10"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
        (np.datetime64("2026-01-02", "ns"), "2026-01-02T00:00:00"),
        (pd.Timestamp("2026-01-02 03:04", tz="UTC"), "2026-01-02T03:04:00+00:00"),
        (pd.Timestamp("2026-01-02 03:04", tz="Europe/Berlin"), "2026-01-02T03:04:00+01:00"),
        (pd.Timestamp("2026-01-02 03:04:05.000006"), "2026-01-02T03:04:05.000006"),
        (np.datetime64("2026-01-02T03:04:05.000006"), "2026-01-02T03:04:05.000006"),
        (np.datetime64("2026-01-02T03:04:05.000000006"), "2026-01-02T03:04:05.000000006"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(days=1, hours=2), "1 days 02:00:00"),
        (pd.Timedelta(days=1, hours=2), "1 days 02:00:00"),
        (np.timedelta64(26, "h"), "1 days 02:00:00"),
        (dt.timedelta(seconds=-1), "-1 days +23:59:59"),
        (pd.Timedelta(seconds=-1), "-1 days +23:59:59"),
        (pd.Timedelta(5, "ns"), "0 days 00:00:00.000000005"),
        (np.timedelta64(5, "us"), "0 days 00:00:00.000005"),
        (pd.Period("2026-01", "M"), "2026-01"),
        (pd.Interval(0, 1), "(0, 1]"),
        (Colour.RED, "red"),
        ([1, "a", None], '[1,"a",null]'),
        ([1.5, float("nan"), pd.NA, pd.NaT, np.float32(0.1)], "[1.5,null,null,null,0.1]"),
        ({"k": [1.0, float("nan")]}, '{"k":[1.0,null]}'),
        ({"at": pd.Timestamp("2026-01-02")}, '{"at":"2026-01-02T00:00:00"}'),
        ({2: "two"}, '{"2":"two"}'),
        ([2**70], "[1180591620717411303424]"),
        (np.array([0.1, np.nan], dtype="float32"), "[0.1,null]"),
        (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
        (np.array(["2026-01-02"], dtype="datetime64[D]"), '["2026-01-02"]'),
        (Point(x=1), '{"x":1}'),
        (b"\x00\xff", "AP8="),
        (np.bytes_(b"\x00\xff"), "AP8="),
        (memoryview(b"\x00\xff"), "AP8="),
        ([b"\x00\xff"], '["AP8="]'),
        (np.longdouble(1.5), "1.5"),
        (np.ma.array([1, 2], mask=[False, True]), "[1,null]"),
        ({"a": [np.ma.masked, decimal.Decimal("NaN"), np.datetime64("NaT", "s")]}, '{"a":[null,null,null]}'),
        (float("inf"), "inf"),
    ],
)
def test_a_cell_becomes_the_same_text_every_time(cell: Any, text: str) -> None:
    assert as_text(cell) == text


def test_a_sets_order_does_not_move_the_key() -> None:
    assert as_json_value({"b", "a", "c"}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "cell",
    [
        None,
        float("nan"),
        np.float32("nan"),
        np.float64("nan"),
        pd.NA,
        pd.NaT,
        np.datetime64("NaT", "us"),
        np.timedelta64("NaT", "us"),
        decimal.Decimal("NaN"),
        decimal.Decimal("sNaN"),
        complex("nan"),
        np.ma.masked,
        np.ma.array(1.5, mask=True),
    ],
)
def test_a_missing_value_is_one_whatever_its_class(cell: Any) -> None:
    assert is_missing(cell)
    assert as_json_value([cell]) == [None]


class Contrary:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "cell", ["", 0, False, [], {}, [None], np.array([np.nan, 1]), b"", Colour.RED, Contrary(),
             np.ma.array(1.5), np.ma.array([1, 2], mask=True)],
)  # fmt: skip
def test_what_is_there_is_not_missing(cell: Any) -> None:
    assert not is_missing(cell)
