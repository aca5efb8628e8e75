"""Result columns of every library: of the library's own types, by the annotation alone."""

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

from .frame_libraries import LIBRARIES, FrameKit
from .golden_values import AT

pytestmark = [
    pytest.mark.every_case,  # each library has dtypes of its own
    pytest.mark.filterwarnings("ignore:.*rows failed"),
]


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


PANDAS = {
    "text": "string",
    "whole": "Int64",
    "real": "Float64",
    "yes": "boolean",
    "choice": "category",
    "number": "Int64",
    "mood": "category",
    "day": "datetime64[us]",
    "at": "datetime64[us]",
    "aware": "datetime64[us, UTC]",
    "took": "timedelta64[us]",
    **dict.fromkeys(("exact", "tags", "inner", "inners", "counts", "either", "pair"), "object"),
}

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

DTYPES = {"pandas": PANDAS, "polars": POLARS, "arrow": ARROW}

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
    "at": dt.datetime(2026, 1, 2, 3, 4, 5),
    "aware": dt.datetime(2026, 1, 2, 1, 4, 5, tzinfo=ZoneInfo("UTC")),
    "took": dt.timedelta(hours=1),
    "exact": decimal.Decimal("1.10"),
    "tags": ["x"],
    "inner": {"name": "n", "size": None},
    "inners": [{"name": "m", "size": 1}],
}
# A day is a moment in pandas, which has no type of days.
DAY = {"pandas": dt.datetime(2026, 1, 2), "polars": dt.date(2026, 1, 2), "arrow": dt.date(2026, 1, 2)}


@pytest.fixture
def asked(cache_dir: Path) -> None:
    def answer(request: SimRequest) -> Any:
        return SimAnswer.refusal() if "bad" in request.prompt else GOOD

    pllm.configure(model="sim:openai", sim={"answers": answer})


def frame_of(kit: FrameKit, values: Sequence[Any]) -> Any:
    """Return a frame of a column of texts, which has its type without rows and with gaps alone too."""
    texts = [value or "" for value in (*values, "")]
    return kit.take(kit.put(kit.frame({"t": texts}), "t", [*values, ""]), range(len(values)))


@pytest.mark.parametrize("values", [[], ["bad"], ["good", None]], ids=["no rows", "all failed", "one null"])
def test_the_type_alone_decides_the_dtypes(asked: None, kit: FrameKit, values: list[Any]) -> None:
    out = kit.llm(frame_of(kit, values)).parse(Everything, "{t}")

    made = kit.dtypes(out)
    del made["t"]
    assert made == {name: str(dtype) for name, dtype in DTYPES[kit.name].items()}
    assert kit.categories(out["choice"]) == ["a", "b", "c"]


def test_answers_are_values_of_their_columns_and_gaps_are_nulls(asked: None, kit: FrameKit) -> None:
    out = kit.llm(frame_of(kit, ["good", "bad", None])).parse(Everything, "{t}")

    first, *others = kit.rows(kit.drop(out, "t"))
    counts = {"pandas": {"k": 1}, "polars": [{"key": "k", "value": 1}], "arrow": [("k", 1)]}
    either, pair = kit.open_values("s", [1, "a"])
    open_values = {"counts": counts[kit.name], "either": either, "pair": pair}
    assert first == {**ANSWERS, "day": DAY[kit.name], **open_values}
    assert others == [dict.fromkeys(POLARS)] * 2


def test_a_type_that_contains_itself_is_json_below_its_first_level(asked: None, kit: FrameKit) -> None:
    pllm.configure(sim={"answers": lambda request: {"children": [{"children": []}]}})

    out = kit.llm(frame_of(kit, ["a"])).parse(Node, "{t}")

    types = {
        "pandas": "object",
        "polars": "List(Struct({'children': List(String)}))",
        "arrow": "list<item: struct<children: list<item: string>>>",
    }
    assert kit.dtypes(out)["children"] == types[kit.name]
    assert kit.column(out, "children") == [[{"children": []}]]


def test_objects_are_objects_where_a_column_can_hold_them_and_json_in_arrow(asked: None, kit: FrameKit) -> None:
    out = kit.llm(frame_of(kit, ["good"])).parse(Everything, "{t}", nested="model")

    assert kit.column(out, "inner") == (['{"name":"n","size":null}'] if kit.name == "arrow" else [Inner(name="n")])


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


def test_reports_of_a_result_hold_for_what_is_made_of_it(asked: None, kit: FrameKit) -> None:
    out = kit.llm(frame_of(kit, ["good", "bad", None])).parse(Everything, "{t}")
    run_registry.forget_all()

    for same in (out, kit.unnamed(out), kit.take(kit.take(out, [2, 1, 0]), [2, 1, 0])):
        assert kit.values(kit.llm(same).status) == ["ok", "failed", "skipped"]
        assert kit.column(kit.llm(same).errors, "position") == [1]


def test_reports_of_polars_hold_for_the_table_that_is_made_of_it(asked: None) -> None:
    out = pl.DataFrame({"t": ["good", "bad", None]}).llm.parse(Everything, "{t}")
    run_registry.forget_all()

    assert pllm.frame(out.to_arrow()).status.to_pylist() == ["ok", "failed", "skipped"]


def test_labels_are_matched_by_position(asked: None, kit: FrameKit) -> None:
    llm = kit.llm(kit.llm(frame_of(kit, ["good", "good"])).parse(Everything, "{t}"))

    evaluation = llm.evaluate(kit.series(["b", "c"], "labels"), "choice")

    assert evaluation.accuracy == 0.5
    assert kit.column(evaluation.report, "support") == [1, 1]


@pytest.mark.parametrize("library", [LIBRARIES[1], LIBRARIES[2]], ids=repr)
def test_labels_of_a_library_without_an_index_are_one_a_row(asked: None, library: FrameKit) -> None:
    llm = library.llm(library.llm(frame_of(library, ["good", "good"])).parse(Everything, "{t}"))

    with pytest.raises(UsageError, match=r"labels has 1 values? and the (frame|table) 2 rows"):
        llm.evaluate(library.series(["b"], "labels"), "choice")


def test_an_expression_says_how_to_ask(asked: None) -> None:
    with pytest.raises(UsageError, match=r"df\.llm\.parse\(…\), df\['text'\]\.llm\.parse\(…\)"):
        pl.col("t").llm.parse(bool, "{value}")


def test_a_frame_that_was_asked_is_not_changed(asked: None, kit: FrameKit) -> None:
    frame = frame_of(kit, ["good"])

    out = kit.llm(frame).parse(Everything, "{t}")

    assert kit.names(frame) == ["t"]
    assert kit.names(out) == ["t", *POLARS]


def test_columns_of_arrow_that_share_a_name_are_refused(asked: None) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["t", "t"])

    with pytest.raises(UsageError, match="The table has 2 columns named 't'"):
        pllm.frame(table).parse(bool, "{t}")
