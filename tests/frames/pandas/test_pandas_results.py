"""What comes back of pandas: dtypes, the index, and `attrs`."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import AwareDatetime, BaseModel

import pllm_notebook as pllm
from pllm_notebook.sim import SimRequest, shared

Answers = Callable[[SimRequest], Any]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Inner(BaseModel):
    name: str


class Everything(BaseModel):
    text: str
    whole: int
    real: float
    yes: bool
    choice: Literal["a", "b", "c"]
    mood: Mood
    day: dt.date
    at: dt.datetime
    exact: decimal.Decimal
    tags: list[str]
    inner: Inner
    maybe: int | None = None


GOOD = {
    "text": "t",
    "whole": 2**53 + 1,
    "real": 1.5,
    "yes": True,
    "choice": "b",
    "mood": "bad",
    "day": "2026-01-02",
    "at": "2026-01-02T03:04:05",
    "exact": "1.10",
    "tags": ["x"],
    "inner": {"name": "n"},
    "maybe": None,
}


@pytest.fixture
def simulated(cache_dir: object) -> Callable[..., None]:
    """Answer `sim:openai` by a function of the request, or with options."""

    def answer(answers: Answers | None = None, **options: Any) -> None:
        pllm.configure(sim={"answers": answers, **options}, model="sim:openai")

    answer()
    return answer


def test_every_field_is_a_column_of_its_own_dtype(simulated: Callable[..., None]) -> None:
    simulated(lambda request: GOOD)
    frame = pd.DataFrame({"review": ["one", "two"]}, index=[7, 3])

    out = frame.llm.parse(Everything, "{review}")

    assert out.dtypes.astype(str).to_dict() | {"review": "str"} == {
        "review": "str",
        "text": "string",
        "whole": "Int64",
        "real": "Float64",
        "yes": "boolean",
        "choice": "category",
        "mood": "category",
        "day": "datetime64[us]",
        "at": "datetime64[us]",
        "exact": "object",
        "tags": "object",
        "inner": "object",
        "maybe": "Int64",
    }
    assert out["whole"].tolist() == [2**53 + 1] * 2
    assert out["choice"].cat.categories.tolist() == ["a", "b", "c"]
    assert out["mood"].tolist() == ["bad", "bad"]
    assert out["exact"].tolist() == [decimal.Decimal("1.10")] * 2
    assert out["inner"].tolist() == [{"name": "n"}] * 2
    assert out["maybe"].isna().all()


def test_the_input_is_not_changed_and_its_index_is_kept(simulated: Callable[..., None]) -> None:
    simulated(lambda request: request.prompt.upper())
    index = pd.MultiIndex.from_tuples([("b", 1), ("a", 2), ("b", 1)], names=["x", "y"])
    frame = pd.DataFrame({"t": ["one", "two", "three"], "n": [1, 2, 3]}, index=index)
    before = frame.copy()

    out = frame.llm.complete("{t}", column="shout")

    pd.testing.assert_frame_equal(frame, before)
    assert list(out.columns) == ["t", "n", "shout"]
    assert out.index.equals(index)
    assert out["shout"].tolist() == ["ONE", "TWO", "THREE"]


def test_aware_moments_are_told_in_utc(simulated: Callable[..., None]) -> None:
    class Moment(BaseModel):
        at: AwareDatetime

    simulated(lambda request: {"at": "2026-01-02T03:04:05+02:00"})

    out = pd.DataFrame({"t": ["a"]}).llm.parse(Moment, "{t}")

    assert str(out["at"].dtype) == "datetime64[us, UTC]"
    assert out["at"].iloc[0] == pd.Timestamp("2026-01-02T01:04:05Z")


@pytest.mark.parametrize(
    ("kind", "value", "dtype", "expected"),
    [
        (bool, True, "boolean", True),
        (int, 3, "Int64", 3),
        (Literal["x", "y"], "y", "category", "y"),
        (list[int], [1, 2], "object", [1, 2]),
        (dict[str, int], {"a": 1}, "object", {"a": 1}),
    ],
)
def test_a_type_without_fields_is_one_column(
    simulated: Callable[..., None], kind: Any, value: Any, dtype: str, expected: Any
) -> None:
    simulated(lambda request: {"value": value} if request.schema else value)

    if kind == dict[str, int]:  # OpenAI is asked for a list of entries in its place
        simulated(lambda request: {"value": [{"key": "a", "value": 1}]})
    out = pd.DataFrame({"t": ["a"]}).llm.parse(kind, "{t}", column="it")

    assert str(out["it"].dtype) == dtype
    assert out["it"].iloc[0] == expected


def test_explode_gives_a_row_per_item_with_the_rows_index_repeated(simulated: Callable[..., None]) -> None:
    class Item(BaseModel):
        name: str
        price: float

    made = {"two": [("a", 1.0), ("b", 2.0)], "none": [], "one": [("c", 3.0)]}
    simulated(lambda request: {"value": [{"name": n, "price": p} for n, p in made[request.prompt]]})
    frame = pd.DataFrame({"t": ["two", "none", "one"]}, index=["x", "y", "z"])

    out = frame.llm.parse(list[Item], "{t}", explode=True)

    assert out.index.tolist() == ["x", "x", "y", "z"]
    assert out["name"].fillna("-").tolist() == ["a", "b", "-", "c"]
    assert str(out["price"].dtype) == "Float64"


def test_an_empty_frame_has_the_right_columns_and_sends_nothing(simulated: Callable[..., None]) -> None:
    out = pd.DataFrame({"review": pd.Series([], dtype="str")}).llm.parse(Everything, "{review}")

    assert len(out) == 0
    assert str(out["whole"].dtype) == "Int64"
    assert str(out["choice"].dtype) == "category"
    assert list(out.columns) == ["review", *Everything.model_fields]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
def test_a_missing_cell_is_skipped_and_never_sent(simulated: Callable[..., None], missing: Any) -> None:
    simulated(lambda request: {"name": request.prompt})
    frame = pd.DataFrame({"t": pd.Series(["a", missing, "c"], dtype="object")})

    out = frame.llm.parse(Inner, "{t}")

    assert out["name"].fillna("-").tolist() == ["a", "-", "c"]
    assert out.llm.status.tolist() == ["ok", "skipped", "ok"]
    assert out.llm.errors.empty


def test_a_series_can_be_asked(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})
    series = pd.Series(["a", "b"], name="review", index=[5, 6])

    out = series.llm.parse(Inner, "<{value}>")

    assert list(out.columns) == ["review", "name"]
    assert out["name"].tolist() == ["<a>", "<b>"]
    assert out.index.tolist() == [5, 6]


def test_attrs_hold_one_string_and_nothing_else(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": "n"})
    frame = pd.DataFrame({"t": ["a"]})

    out = frame.llm.parse(Inner, "{t}")

    assert {key: type(value) for key, value in out.attrs.items()} == {"pllm_run": str}
    assert frame.attrs == {}


def test_a_simulator_that_was_started_anew_is_found_again(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})
    frame = pd.DataFrame({"t": ["a"]})
    frame.llm.parse(Inner, "{t}")

    shared({}).close()
    out = frame.llm.parse(Inner, "again {t}", max_retries=0)

    assert out["name"].tolist() == ["again a"]
