"""The same value in a column of any kind is the same prompt, hence the same answer; and a gap is a gap in all."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import NameClashError, UsageError
from pllm_notebook.frames.pandas.cells import column_data
from pllm_notebook.frames.rows import prompts_of
from pllm_notebook.templates import Template


class Said(BaseModel):
    said: str


@pytest.fixture
def echo(cache_dir: object) -> Callable[[pd.DataFrame, str | None], list[Any]]:
    pllm.configure(sim={"answers": lambda request: {"said": request.prompt}}, model="sim:openai")
    return lambda frame, prompt: frame.llm.parse(Said, prompt)["said"].fillna("-").tolist()


def texts(series: pd.Series[Any]) -> tuple[list[str | None], list[str | None]]:
    """Give what a template, and what a row without one, says of a column's cells; None for what is skipped."""
    given = column_data(pd.DataFrame({"t": series}), ["t"])
    filled, labelled = (
        prompts_of(given, how, "skip")(range(len(series))) for how in (Template.compile("{t}", ["t"]), None)
    )
    return list(filled), list(labelled)  # type: ignore[arg-type]


arrow = pd.ArrowDtype
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5)
BERLIN = pd.Timestamp("2026-01-02 03:04", tz="Europe/Berlin")
# The dtype of text from pandas 3 on; before, "str" makes a text of a missing value.
STR = ["str"] if pd.__version__ >= "3" else []

COLUMNS = [
    ("3", [3, None], ["Int64", arrow(pa.int64()), arrow(pa.int8()), "object"]),
    ("0.1", [0.1, None], ["float64", "float32", "float16", "Float64", "Float32", arrow(pa.float64()),
                          arrow(pa.float32()), "object", "category"]),
    ("1e+20", [1e20, None], ["float64", "float32", "Float32", arrow(pa.float32())]),
    ("true", [True, None], ["boolean", arrow(pa.bool_()), "object"]),
    ("a", ["a", None], ["object", "string", "category", arrow(pa.string()), *STR]),
    ("1 days 02:00:00", [dt.timedelta(hours=26), None],
     ["timedelta64[ns]", "timedelta64[us]", "object", arrow(pa.duration("us"))]),
    ("2026-01-02T03:04:05", [MOMENT, None], ["datetime64[ns]", "datetime64[us]", "object", arrow(pa.timestamp("us"))]),
    ("2026-01-02T03:04:00+01:00", [BERLIN, None],
     ["datetime64[us, Europe/Berlin]", "object", arrow(pa.timestamp("us", "Europe/Berlin"))]),
    ("2026-01-02", [dt.date(2026, 1, 2), None], ["object", arrow(pa.date32())]),
    ("03:04:00", [dt.time(3, 4), None], ["object", arrow(pa.time64("us"))]),
    ("1.10", [decimal.Decimal("1.10"), None], ["object", arrow(pa.decimal128(5, 2))]),
    ("AP8=", [b"\x00\xff", None], ["object", arrow(pa.binary())]),
    ("[1,2]", [[1, 2], None], ["object", arrow(pa.list_(pa.int64()))]),
    ('{"a":1}', [{"a": 1}, None], ["object", arrow(pa.struct([("a", pa.int64())]))]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "values", "dtype"), [(text, values, dtype) for text, values, dtypes in COLUMNS for dtype in dtypes]
)
def test_a_value_has_one_text_in_every_library(text: str, values: list[Any], dtype: Any) -> None:
    series = (
        pd.Series(values, dtype="object").astype(dtype) if isinstance(dtype, str) else pd.Series(values, dtype=dtype)
    )

    filled, labelled = texts(series)

    assert filled == [text, None]
    assert labelled == [labelled[0], None]
    assert labelled[0] in (f'{{"t":{text}}}', f'{{"t":"{text}"}}')


def _nan_beside_na() -> pd.Series[Any]:
    return pd.Series(pa.array([0.5, float("nan"), None]), dtype=arrow(pa.float64()))


@pytest.mark.parametrize(
    "series",
    [
        pd.Series([0.5, float("nan"), None]),
        pd.Series([0.5, float("nan"), None], dtype="object"),
        pd.Series([0.5, np.nan, pd.NA], dtype="Float64"),
        pd.Series(pd.arrays.FloatingArray(np.array([0.5, np.nan, 0]), np.array([False, False, True]))),
        _nan_beside_na(),
        _nan_beside_na().astype(arrow(pa.float32())),
        pd.Series([0.5, np.ma.masked, pa.scalar(None)], dtype="object"),
        pd.Series([0.5, decimal.Decimal("NaN"), pd.NaT], dtype="object"),
        pd.Series([0.5, np.datetime64("NaT", "s"), np.ma.array(1.5, mask=True)], dtype="object"),
        pd.Series([0.5, decimal.Decimal("sNaN"), np.float32("nan")], dtype="object"),
    ],
)
def test_nan_is_a_gap_beside_na(series: pd.Series[Any]) -> None:
    assert texts(series) == (["0.5", None, None], ['{"t":0.5}', None, None])


def test_an_answer_is_found_whichever_library_holds_the_cell(echo: Callable[..., list[Any]]) -> None:
    spans = [dt.timedelta(hours=26), dt.timedelta(hours=1)]
    first = pd.DataFrame({"t": pd.Series(spans)}).llm.parse(Said, "{t}")
    again = pd.DataFrame({"t": pd.Series(spans, dtype=arrow(pa.duration("us")))}).llm.parse(Said, "{t}")

    assert first["said"].tolist() == again["said"].tolist() == ["1 days 02:00:00", "0 days 01:00:00"]
    assert again.llm.status.tolist() == ["cached", "cached"]


def several_levels() -> pd.DataFrame:
    columns = pd.MultiIndex.from_tuples([("price", "mean"), ("price", "max"), ("shop", "")])
    return pd.DataFrame([[1.5, 2.0, "s"]], columns=columns)


def test_levels_of_columns_are_joined_in_the_prompt(echo: Callable[..., list[Any]]) -> None:
    assert several_levels().llm.parse(Said, "{price_mean}|{shop}")[("said", "")].tolist() == ["1.5|s"]
    assert several_levels().llm.parse(Said)[("said", "")].tolist() == ['{"price_mean":1.5,"price_max":2.0,"shop":"s"}']


def test_levels_of_columns_stay_in_the_result(echo: Callable[..., list[Any]]) -> None:
    out = several_levels().llm.parse(Said, "{shop}")

    assert out.columns.tolist() == [("price", "mean"), ("price", "max"), ("shop", ""), ("said", "")]
    assert out["said"].tolist() == ["s"]
    with pytest.raises(NameClashError):
        several_levels().rename(columns={"shop": "said"}).llm.parse(Said, "{said}")


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (pd.MultiIndex.from_tuples([("doc", "text"), ("shop", "")], names=["of", "what"]), "doc_text"),
        (pd.MultiIndex.from_tuples([("text", ""), ("shop", "")]), "text"),
        (pd.Index([0, "shop"], dtype="object"), "0"),
    ],
)
def test_pieces_keep_the_frames_own_columns(columns: pd.Index[Any], name: str) -> None:
    frame = pd.DataFrame([["one two three four", "s"]], columns=columns)

    out = frame.llm.chunks(name, tokens=2)

    assert out.columns.names == columns.names
    assert set(columns) < set(out.columns)
    assert " ".join(out[columns[0]]) == "one two three four"
    assert len(out.columns) == 4


def test_a_row_is_explained_by_its_position_or_by_its_label(echo: Callable[..., list[Any]]) -> None:
    out = pd.DataFrame({"t": ["a", "b", "c", "d"]}, index=[7, 1, 5, 5]).llm.parse(Said, "{t}")

    assert out.llm.explain(1).value == out.llm.explain(label=1).value == Said(said="b")
    assert repr(out.llm.explain(0)).startswith("row        0, label 7 (ok)\n")
    assert repr(out.llm.explain(1)).startswith("row        1 (ok)\n")
    assert out.llm.explain(label=7).value == Said(said="a")
    kept = out.loc[[5, 7]].iloc[1:]
    assert (kept.llm.explain(1).position, kept.llm.explain(1).label, kept.llm.explain(1).prompt) == (1, 7, "a")


def test_a_label_that_names_no_row_or_several_is_told(echo: Callable[..., list[Any]]) -> None:
    out = pd.DataFrame({"t": ["a", "b", "c"]}, index=[7, 5, 5]).llm.parse(Said, "{t}")
    named = out.set_axis(["x", "y", "z"])
    several = "2 rows of the frame have the label 5, the first of them at the positions 1, 2. Give a position."
    has_it = "Its index has the label 'y': explain(label='y')."
    none = "No row of the frame has the label {}; its labels are 7, 5, 5."
    neither = (
        "A row is named by its position, counted from 0 whatever the index is, or by label=, its label in the index."
    )
    beyond = "There is no row 7: the frame has 3, counted from 0. Its index has the label 7: explain(label=7)."
    said: list[tuple[Callable[[], Any], str]] = [
        (lambda: out.llm.explain(7), beyond),
        (lambda: named.llm.explain("y"), f"A row is named by its position, a whole number, not 'y'. {has_it}"),
        (lambda: out.llm.explain(label=5), several),
        (lambda: out.llm.explain(label=0), none.format(0)),
        (lambda: out.llm.explain(label=[7]), none.format([7])),
        (lambda: out.llm.explain(0, label=7), neither),
        (lambda: out.llm.explain(), neither),
    ]

    for ask, message in said:
        with pytest.raises(UsageError) as caught:
            ask()
        assert str(caught.value) == f"{message} Nothing was sent."
