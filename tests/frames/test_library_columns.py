"""Result columns of Polars and Arrow: of the library's own types, by the annotation alone."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from pydantic import AwareDatetime, BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.value_types import DATE, DECIMAL, data_type
from pllm_notebook.sim import SimAnswer, SimRequest

from .golden_values import AT

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Inner(BaseModel):
    name: str
    size: int | None = None


class Node(BaseModel):
    children: list[Node] = []


class Everything(BaseModel):
    text: str
    whole: int
    real: float
    yes: bool
    choice: Literal["a", "b", "c"]
    number: Literal[1, 2]
    mood: Mood
    day: dt.date
    at: dt.datetime
    aware: AwareDatetime
    took: dt.timedelta
    exact: decimal.Decimal
    tags: list[str]
    inner: Inner
    inners: list[Inner]
    counts: dict[str, int]
    either: int | str
    pair: tuple[int, str]


POLARS = {
    "text": pl.String,
    "whole": pl.Int64,
    "real": pl.Float64,
    "yes": pl.Boolean,
    "choice": pl.Enum(["a", "b", "c"]),
    "number": pl.Int64,
    "mood": pl.Enum(["good", "bad"]),
    "day": pl.Date,
    "at": pl.Datetime("us"),
    "aware": pl.Datetime("us", "UTC"),
    "took": pl.Duration("us"),
    "exact": pl.Decimal(38, 18),
    "tags": pl.List(pl.String),
    "inner": pl.Struct({"name": pl.String, "size": pl.Int64}),
    "inners": pl.List(pl.Struct({"name": pl.String, "size": pl.Int64})),
    "counts": pl.List(pl.Struct({"key": pl.String, "value": pl.Int64})),
    "either": pl.String,
    "pair": pl.String,
}

_INNER = pa.struct([("name", pa.string()), ("size", pa.int64())])
ARROW = {
    "text": pa.string(),
    "whole": pa.int64(),
    "real": pa.float64(),
    "yes": pa.bool_(),
    "choice": pa.dictionary(pa.int32(), pa.string()),
    "number": pa.int64(),
    "mood": pa.dictionary(pa.int32(), pa.string()),
    "day": pa.date32(),
    "at": pa.timestamp("us"),
    "aware": pa.timestamp("us", "UTC"),
    "took": pa.duration("us"),
    "exact": pa.decimal128(38, 18),
    "tags": pa.list_(pa.string()),
    "inner": _INNER,
    "inners": pa.list_(_INNER),
    "counts": pa.map_(pa.string(), pa.int64()),
    "either": pa.string(),
    "pair": pa.string(),
}

GOOD = {
    "text": "t",
    "whole": 2**53 + 1,
    "real": 1.5,
    "yes": True,
    "choice": "b",
    "number": 2,
    "mood": "bad",
    "day": "2026-01-02",
    "at": "2026-01-02T03:04:05",
    "aware": "2026-01-02T03:04:05+02:00",
    "took": "PT1H",
    "exact": "1.10",
    "tags": ["x"],
    "inner": {"name": "n", "size": None},
    "inners": [{"name": "m", "size": 1}],
    "counts": [{"key": "k", "value": 1}],
    "either": "s",
    "pair": [1, "a"],
}

ANSWERS = {
    "text": "t",
    "whole": 2**53 + 1,
    "real": 1.5,
    "yes": True,
    "choice": "b",
    "number": 2,
    "mood": "bad",
    "day": dt.date(2026, 1, 2),
    "at": dt.datetime(2026, 1, 2, 3, 4, 5),
    "aware": dt.datetime(2026, 1, 2, 1, 4, 5, tzinfo=ZoneInfo("UTC")),
    "took": dt.timedelta(hours=1),
    "exact": decimal.Decimal("1.10"),
    "tags": ["x"],
    "inner": {"name": "n", "size": None},
    "inners": [{"name": "m", "size": 1}],
    "either": '"s"',
    "pair": '[1,"a"]',
}


@pytest.fixture
def asked(cache_dir: Path) -> None:
    def answer(request: SimRequest) -> Any:
        return SimAnswer.refusal() if "bad" in request.prompt else GOOD

    pllm.configure(model="sim:openai", sim={"answers": answer})


def of_polars(values: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame({"t": pl.Series(values, dtype=pl.String)})


def of_arrow(values: Sequence[Any]) -> pa.Table:
    return pa.table({"t": pa.array(values, type=pa.string())})


@pytest.mark.parametrize("values", [[], ["bad"], ["good", None]], ids=["no rows", "all failed", "one null"])
def test_the_type_alone_decides_the_dtypes(asked: None, values: list[Any]) -> None:
    frame = of_polars(values).llm.parse(Everything, "{t}")
    table = pllm.frame(of_arrow(values)).parse(Everything, "{t}")

    assert dict(frame.schema) == {"t": pl.String, **POLARS}
    assert {field.name: field.type for field in table.schema} == {"t": pa.string(), **ARROW}
    assert table.column("choice").combine_chunks().dictionary.to_pylist() == ["a", "b", "c"]


def test_answers_are_values_of_their_columns_and_gaps_are_nulls(asked: None) -> None:
    frame = of_polars(["good", "bad", None]).llm.parse(Everything, "{t}")
    table = pllm.frame(of_arrow(["good", "bad", None])).parse(Everything, "{t}")

    first, *others = frame.drop("t").to_dicts()
    assert first == {**ANSWERS, "counts": [{"key": "k", "value": 1}]}
    assert others == [dict.fromkeys(POLARS)] * 2
    first, *others = table.drop_columns("t").to_pylist()
    assert first == {**ANSWERS, "counts": [("k", 1)]}
    assert others == [dict.fromkeys(ARROW)] * 2


def test_a_type_that_contains_itself_is_json(asked: None) -> None:
    pllm.configure(sim={"answers": lambda request: {"children": [{"children": []}]}})

    out = of_polars(["a"]).llm.parse(Node, "{t}")

    assert dict(out.schema)["children"] == pl.List(pl.Struct({"children": pl.List(pl.String)}))
    assert out["children"].to_list() == [[{"children": []}]]


def test_objects_are_objects_in_polars_and_json_in_arrow(asked: None) -> None:
    out = of_polars(["good"]).llm.parse(Everything, "{t}", nested="model")
    table = pllm.frame(of_arrow(["good"])).parse(Everything, "{t}", nested="model")

    assert out["inner"].to_list() == [Inner(name="n")]
    assert table["inner"].to_pylist() == ['{"name":"n","size":null}']


@pytest.mark.parametrize(
    ("column", "values", "texts"),
    [
        (Column("x", Kind.INTEGER), [1, 2**70, None], ["1", str(2**70), None]),
        (Column("x", Kind.TEXT), ["a", 1, None], ["a", "1", None]),
        (Column("x", Kind.TEXT), ["half a pair: \ud83d"], ["half a pair: \\ud83d"]),
        (Column("x", Kind.BOOLEAN), [True, "yes", None], ["true", "yes", None]),
        (Column("x", Kind.CATEGORY, ("a", "b")), ["a", "C", None], ["a", "C", None]),
        (Column("x", Kind.DATETIME, type=DATE), [AT, None], [AT.isoformat(), None]),
        (Column("x", Kind.SCALAR, type=DECIMAL), [decimal.Decimal("1e-19")], ["1E-19"]),
        (Column("x", Kind.DATA, type=data_type(Inner)), [{"name": "n", "size": "s"}], ['{"name":"n","size":"s"}']),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Column) else "",
)
@pytest.mark.parametrize("library", ["polars", "arrow"])
def test_a_value_that_its_column_cannot_hold_makes_it_text_with_a_warning(
    library: str, column: Column, values: list[Any], texts: list[Any]
) -> None:
    made: Any = table_of(pl.DataFrame() if library == "polars" else pa.table({}))

    with pytest.warns(UserWarning, match="Column 'x' holds text: "):
        built = made.frame_library.array(column, values)

    assert built.to_pylist() == texts if library == "arrow" else built.to_list() == texts


def test_reports_of_a_result_hold_for_what_is_made_of_it(asked: None) -> None:
    out = of_polars(["good", "bad", None]).llm.parse(Everything, "{t}")
    run_registry.forget_all()

    for same in (out, out.clone(), out.reverse().reverse(), out.filter(pl.lit(value=True))):
        assert same.llm.status.to_list() == ["ok", "failed", "skipped"]
        assert same.llm.errors["position"].to_list() == [1]
    table = out.to_arrow()
    assert pllm.frame(table).status.to_pylist() == ["ok", "failed", "skipped"]


def test_labels_are_matched_by_position(asked: None) -> None:
    out = of_polars(["good", "good"]).llm.parse(Everything, "{t}")

    assert out.llm.evaluate(pl.Series(["b", "c"]), "choice").accuracy == 0.5
    assert out.llm.evaluate(pl.Series(["b", "c"]), "choice").report.columns[0] == "labels"
    with pytest.raises(UsageError, match="The Series of labels has 1 values and the frame 2 rows"):
        out.llm.evaluate(pl.Series(["b"]), "choice")


def test_an_expression_says_how_to_ask(asked: None) -> None:
    with pytest.raises(UsageError, match=r"df\.llm\.parse\(…\), df\['text'\]\.llm\.parse\(…\)"):
        pl.col("t").llm.parse(bool, "{value}")


def test_a_frame_of_polars_is_not_changed(asked: None) -> None:
    frame = of_polars(["good"])

    out = frame.llm.parse(Everything, "{t}")

    assert frame.columns == ["t"]
    assert out.columns == ["t", *POLARS]


def test_columns_of_arrow_that_share_a_name_are_refused(asked: None) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["t", "t"])

    with pytest.raises(UsageError, match="The table has 2 columns named 't'"):
        pllm.frame(table).parse(bool, "{t}")
