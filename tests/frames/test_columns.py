"""Result columns: the dtype follows from the type and its validators, never from the rows; and it goes on."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import io
import json
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    Field,
    NaiveDatetime,
    PrivateAttr,
    create_model,
    field_validator,
    model_validator,
)

import pllm_notebook as pllm
from pllm_notebook.exceptions import NameClashError, UnsupportedSchemaError, UsageError
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.pandas.columns import array_of
from pllm_notebook.sim import SimRequest
from tests.zoo import ZOO, ZooCase

from .frame_libraries import FrameKit

Mood = Literal["pos", "neg"]
Asked = Callable[..., pd.DataFrame]


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


@pytest.fixture
def ask(cache_dir: object) -> Asked:
    """Ask a type of a frame whose rows are answered by the values that are given."""

    def asked(kind: Any, *values: Any, **options: Any) -> pd.DataFrame:
        given = dict(enumerate(values))
        pllm.configure(sim={"answers": lambda request: given[int(request.prompt)]}, model="sim:openai")
        frame = pd.DataFrame({"n": range(len(values))}, index=[f"r{n}" for n in range(len(values))])
        return frame.llm.parse(kind, "{n}", **{"salt": str(values), "max_repairs": 0} | options)

    return asked


def upper(value: Any) -> Any:
    return value.upper()


class After(BaseModel):
    it: Mood

    @field_validator("it")
    @classmethod
    def _upper(cls, value: str) -> str:
        return value.upper()


class Wrapped(BaseModel):
    it: Mood

    @field_validator("it", mode="wrap")
    @classmethod
    def _upper(cls, value: Any, handler: Any) -> Any:
        return handler(value).upper()


class Annotated_(BaseModel):
    it: Annotated[Mood, AfterValidator(upper)]


class Optional_(BaseModel):
    it: Annotated[Mood, AfterValidator(upper)] | None = None


class OfModel(BaseModel):
    it: Mood

    @model_validator(mode="after")
    def _set(self) -> Self:
        self.it = self.it.upper()  # type: ignore[assignment]
        return self


class PostInit(BaseModel):
    it: Mood

    def model_post_init(self, context: Any) -> None:
        self.it = self.it.upper()  # type: ignore[assignment]


@dataclasses.dataclass
class OfDataclass:
    it: Mood

    def __post_init__(self) -> None:
        self.it = self.it.upper()  # type: ignore[assignment]


class Shouted:
    """A type of a person's own."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(upper, handler(Mood))


class OfCustom(BaseModel):
    it: Shouted


@pytest.mark.parametrize(
    "kind",
    [After, Wrapped, Annotated_, Optional_, OfModel, PostInit, OfDataclass, OfCustom],
    ids=lambda kind: kind.__name__,
)
def test_what_a_validator_makes_of_a_literal_is_kept(ask: Asked, kind: Any) -> None:
    out = ask(kind, {"it": "pos"}, {"it": "neg"})

    assert out["it"].tolist() == ["POS", "NEG"]
    assert str(out["it"].dtype) == ("object" if kind is OfCustom else "string")
    assert out.llm.status.tolist() == ["ok", "ok"]


def test_an_enum_whose_validator_gives_text_is_text(ask: Asked) -> None:
    class Of(BaseModel):
        it: Annotated[Colour, AfterValidator(lambda value: value.value.upper())]

    out = ask(Of, {"it": "red"})

    assert (out["it"].tolist(), str(out["it"].dtype)) == (["RED"], "string")


def test_a_type_without_fields_follows_its_validators_too(ask: Asked) -> None:
    out = ask(Annotated[Mood, AfterValidator(upper)], {"value": "pos"})

    assert (out["answer"].tolist(), str(out["answer"].dtype)) == (["POS"], "string")


class Before(BaseModel):
    it: Mood
    _seen: int = PrivateAttr(0)

    @field_validator("it", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower()

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return value


def test_a_validator_that_comes_first_leaves_a_value_of_the_type_hence_a_category(ask: Asked) -> None:
    out = ask(Before, {"it": "POS"})

    assert out["it"].tolist() == ["pos"]
    assert out["it"].cat.categories.tolist() == ["pos", "neg"]


def test_flags_that_are_put_together_are_numbers(ask: Asked) -> None:
    class Of(BaseModel):
        it: Right

    array = array_of(Column("it", Kind.INTEGER), [Right.READ | Right.WRITE, Right.READ, None])

    assert array.fillna(0).tolist() == [3, 1, 0]
    assert str(ask(Of, {"it": 1})["it"].dtype) == "Int64"


class Counted(BaseModel):
    it: str

    @field_validator("it")
    @classmethod
    def _count(cls, value: str) -> int:
        return len(value)


class CountedUnsaid(BaseModel):
    it: str

    @field_validator("it")
    @classmethod
    def _count(cls, value):  # type: ignore[no-untyped-def]
        return value if value.startswith("t") else len(value)


def test_a_validators_return_annotation_is_the_dtype(ask: Asked) -> None:
    out = ask(Counted, {"it": "abc"}, {"it": "a"})

    assert (out["it"].tolist(), str(out["it"].dtype)) == ([3, 1], "Int64")


@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_a_value_that_the_column_cannot_hold_fails_its_row_alone(ask: Asked) -> None:
    for values, expected in ([{"it": "text"}, {"it": "number"}], ["text", "-"]), ([{"it": "number"}], ["-"]):
        out = ask(CountedUnsaid, *values)

        assert (out["it"].fillna("-").tolist(), str(out["it"].dtype)) == (expected, "string")
        assert out.llm.errors["kind"].tolist() == ["schema"]
        assert out.llm.errors["message"].tolist() == [
            "it: a validator made 6, and the column is one of str; annotate what the validator returns"
        ]


@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_the_same_holds_for_the_items_of_an_exploded_list(ask: Asked) -> None:
    out = ask(list[CountedUnsaid], {"value": [{"it": "t"}, {"it": "two"}]}, {"value": [{"it": "one"}]}, explode=True)

    assert out["it"].fillna("-").tolist() == ["t", "two", "-"]


@pytest.mark.parametrize("values", [[1, 2], ["a", "b"], [1, "a"]])
def test_a_union_is_objects_whatever_the_rows_are(ask: Asked, values: list[Any]) -> None:
    class Of(BaseModel):
        it: int | str

    out = ask(Of, *({"it": value} for value in values))

    assert (out["it"].tolist(), str(out["it"].dtype)) == (values, "object")


def test_samples_have_the_dtypes_of_the_result(cache_dir: object) -> None:
    pllm.configure(sim={"answers": lambda request: {"it": "pos"}}, model="sim:openai")
    out = pd.DataFrame({"t": ["a", "b"]}).llm.parse(After, "{t}", samples=2)

    samples = out.llm.samples

    assert samples["it"].tolist() == ["POS"] * 4
    assert str(samples["it"].dtype) == "string"
    assert list(samples.columns) == [
        "position", "label", "model", "sample", "chosen", "decided", "it", "score", "failure",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (Column("x", Kind.CATEGORY, ("a", "b")), ["a", "C", None]),
        (Column("x", Kind.INTEGER), [1, 2**70, None]),
        (Column("x", Kind.INTEGER), [1, "one", None]),
        (Column("x", Kind.TEXT), ["a", 1, None]),
        (Column("x", Kind.BOOLEAN), [True, "yes", None]),
        (Column("x", Kind.DATETIME), ["not a day", None]),
        (Column("x", Kind.DURATION), ["soon", None]),
    ],
)
def test_a_column_never_makes_a_value_na(column: Column, values: list[Any]) -> None:
    with pytest.warns(UserWarning, match="Column 'x' holds objects") as told:
        array = array_of(column, values)

    assert list(array) == values
    assert "C long" not in str(told[0].message)


@pytest.mark.parametrize(
    ("kind", "dtype", "first"),
    [
        (dt.datetime, "datetime64[us]", pd.Timestamp("2024-05-01 08:00")),
        (AwareDatetime, "datetime64[us, UTC]", pd.Timestamp("2024-05-01 08:00", tz="UTC")),
        (NaiveDatetime, "datetime64[us]", None),
    ],
)
def test_the_type_decides_the_zone_and_no_row(ask: Asked, kind: Any, dtype: str, first: Any) -> None:
    class At(BaseModel):
        at: kind

    # Neither the rows that have a zone nor those that have none.
    for answers in (["2024-05-01T10:00:00+02:00"] * 2, ["2024-05-01T08:00:00"] * 2):
        out = ask(At, *({"at": answer} for answer in answers))
        assert str(out["at"].dtype) == dtype
        if "+" in answers[0]:
            assert (out["at"].iloc[0] if first is not None else None) == first


def test_a_number_beyond_64_bits_fails_its_row_and_leaves_the_dtype(ask: Asked) -> None:
    class Counted(BaseModel):
        count: int
        exact: Decimal

    out = ask(Counted, f'{{"count": {2**63}, "exact": {2**70}}}', f'{{"count": {-(2**63)}, "exact": {2**70}}}')

    assert str(out["count"].dtype) == "Int64"
    assert out["count"].isna().tolist() == [True, False]
    assert out["count"].iloc[1] == -(2**63)
    assert out["exact"].iloc[1] == Decimal(2**70)
    assert out.llm.errors["message"].tolist() == [
        "count: 9223372036854775808 is beyond 64 bits; annotate Decimal or str for larger numbers"
    ]


class Size(BaseModel):
    count: int
    most: int | None = None


class Box(BaseModel):
    outer: int | None
    size: Size | None
    sizes: list[Size] = []
    numbers: list[int] = []


BOX = {"outer": 1, "size": {"count": 1, "most": 1}}


@pytest.mark.parametrize(
    ("answer", "options", "at"),
    [
        (BOX | {"outer": 2**63}, {}, "outer"),
        (BOX | {"size": {"count": 2**63, "most": None}}, {"flatten": True}, "size.count"),
        (BOX | {"size": {"count": 1, "most": 2**63}}, {"flatten": True}, "size.most"),
        (BOX | {"numbers": [1, 2**63]}, {"explode": "numbers"}, "numbers"),
        (BOX | {"sizes": [{"count": 2**63, "most": 1}]}, {"explode": "sizes", "flatten": True}, "sizes.count"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_a_nested_number_beyond_64_bits_fails_its_row_where_it_is_a_column(
    ask: Asked, answer: dict[str, Any], options: dict[str, Any], at: str
) -> None:
    # As text: the simulator's own JSON holds no such number.
    out = ask(Box, json.dumps(answer), BOX | {"numbers": [1], "sizes": [BOX["size"]]}, **options)

    assert (str(out[at].dtype), out[at].tolist()) == ("Int64", [pd.NA, 1])
    assert out.llm.errors["kind"].tolist() == ["schema"]
    assert out.llm.errors["message"].tolist() == [
        f"{at}: 9223372036854775808 is beyond 64 bits; annotate Decimal or str for larger numbers"
    ]


class Deep(BaseModel):
    numbers: list[int] = []
    sizes: list[Size] = []
    counts: dict[str, int] = {}
    maybe: tuple[int, ...] | None = None


@pytest.mark.parametrize(
    ("kind", "good", "big", "at"),
    [
        (list[int], [1, -(2**63)], [1, 2**63], "1"),
        (dict[str, int], [{"key": "a", "value": 1}], [{"key": "a", "value": -(2**63) - 1}], "a"),
        (Deep, {"numbers": [2**63 - 1]}, {"numbers": [1, 2**70]}, "numbers.1"),
        (Deep, {"sizes": [{"count": 1}]}, {"sizes": [{"count": 1}, {"count": 1, "most": 2**63}]}, "sizes.1.most"),
        (Deep, {}, {"counts": [{"key": "a", "value": 2**64}]}, "counts.a"),
        (Deep, {"maybe": [1]}, {"maybe": [2**63]}, "maybe.0"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_a_number_beyond_64_bits_inside_nested_data_fails_its_row_alone(
    kit: FrameKit, cache_dir: object, kind: Any, good: Any, big: Any, at: str
) -> None:
    whole = {"numbers": [], "sizes": [], "counts": [{"key": "z", "value": 1}], "maybe": None}
    # As text: the simulator's own JSON holds no such number.
    texts = [json.dumps(whole | one if kind is Deep else {"value": one}) for one in (good, big)]
    pllm.configure(sim={"answers": lambda request: texts[int(request.prompt)]}, model="sim:openai")

    out = kit.llm(kit.frame({"n": [0, 1]})).parse(kind, "{n}", max_repairs=0)
    same = kit.llm(kit.frame({"n": [0]})).parse(kind, "{n}", max_repairs=0)

    assert kit.dtypes(out) == kit.dtypes(same)
    assert kit.values(kit.llm(out).status) == ["ok", "failed"]
    (message,) = kit.column(kit.llm(out).errors, "message")
    assert message.startswith(f"{at}: ")
    assert message.endswith("is beyond 64 bits; annotate Decimal or str for larger numbers")
    kit.stored(out)


class Open(BaseModel):
    pair: tuple[int, str]
    either: list[int | str]
    exact: list[Decimal]
    keys: dict[int, str]


def test_numbers_beyond_64_bits_are_kept_where_the_type_leaves_the_form_open(kit: FrameKit, cache_dir: object) -> None:
    said = {"pair": [2**70, "a"], "either": [2**70], "exact": [2**70], "keys": [{"key": 2**70, "value": "a"}]}
    pllm.configure(sim={"answers": lambda _: json.dumps(said)}, model="sim:openai")

    out = kit.llm(kit.frame({"n": [0]})).parse(Open, "{n}", max_repairs=0)

    assert kit.values(kit.llm(out).status) == ["ok"]
    for name in ("pair", "either", "exact", "keys"):
        assert str(2**70) in str(kit.column(out, name)[0])


@pytest.mark.parametrize("nested", ["model", "json"])
def test_numbers_beyond_64_bits_are_kept_in_objects_and_json_text(
    kit: FrameKit, cache_dir: object, nested: str
) -> None:
    pllm.configure(sim={"answers": lambda _: json.dumps({"value": [2**70]})}, model="sim:openai")

    out = kit.llm(kit.frame({"n": [0]})).parse(list[int], "{n}", max_repairs=0, nested=nested)

    assert kit.column(out, "answer") in ([[2**70]], [f"[{2**70}]"])


class Resized(BaseModel):
    size: Size

    @field_validator("size")
    @classmethod
    def _cut(cls, value):  # type: ignore[no-untyped-def]
        return value if value.count < 5 else "large"


@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_a_value_without_the_fields_that_are_columns_fails_its_row_alone(ask: Asked) -> None:
    out = ask(Resized, {"size": {"count": 9, "most": 1}}, {"size": {"count": 1, "most": 1}}, flatten=True)

    assert (str(out["size.count"].dtype), out["size.count"].tolist()) == ("Int64", [pd.NA, 1])
    assert out.llm.errors["message"].tolist() == [
        "size: a validator made 'large', which has no such fields; annotate what the validator returns"
    ]


def test_a_cached_answer_with_a_number_that_is_none_is_repaired(cache_dir: object) -> None:
    def share(**more: Any) -> type[BaseModel]:
        return create_model("Share", share=(Annotated[float, Field(**more)], ...))

    answers = iter(['{"share": NaN}', '{"share": 0.25}'])
    pllm.configure(sim={"answers": lambda request: next(answers)}, model="sim:openai")
    frame = pd.DataFrame({"n": [1]})
    earlier = frame.llm.parse(share(allow_inf_nan=True), "{n}")
    assert earlier.llm.errors.empty

    out = frame.llm.parse(share(), "{n}")

    assert out["share"].tolist() == [0.25]


# What comes out goes on.


class Deps(BaseModel):
    package: str
    version: int | None = None


class Found(BaseModel):
    name: str
    deps: Deps
    maybe: Deps | None = None
    lines: list[Deps] = []
    tags: set[str] = Field(default_factory=set)


FOUND = {
    "name": "n",
    "deps": {"package": "p", "version": 1},
    "maybe": None,
    "lines": [{"package": "a", "version": 1}, {"package": "b", "version": None}],
    "tags": ["y", "x"],
}


def test_nested_values_are_plain_data(ask: Asked) -> None:
    out = ask(Found, FOUND)

    assert out[["deps", "maybe", "lines", "tags"]].iloc[0].tolist() == [
        FOUND["deps"],
        None,
        FOUND["lines"],
        ["x", "y"],
    ]
    assert isinstance(out["deps"].iloc[0], dict)
    assert pd.json_normalize(out["deps"].tolist()).columns.tolist() == ["package", "version"]


def test_nested_values_are_objects_or_json_where_that_is_asked(ask: Asked) -> None:
    assert ask(Found, FOUND, nested="model")["deps"].tolist() == [Deps(package="p", version=1)]
    out = ask(Found, FOUND, nested="json")

    assert out["deps"].tolist() == ['{"package":"p","version":1}']
    assert str(out["deps"].dtype) == "string"
    assert out["maybe"].isna().tolist() == [True]
    with pytest.raises(UsageError, match="nested is one of"):
        ask(Found, FOUND, nested="objects")


def test_flatten_gives_a_column_for_each_field_of_a_nested_model(ask: Asked) -> None:
    out = ask(Found, FOUND, {**FOUND, "maybe": {"package": "q", "version": 2}}, flatten=True)

    assert list(out.columns) == [
        "n", "name", "deps.package", "deps.version", "maybe.package", "maybe.version", "lines", "tags",
    ]  # fmt: skip
    assert out["deps.version"].tolist() == [1, 1]
    assert str(out["deps.version"].dtype) == str(out["maybe.version"].dtype) == "Int64"
    assert out["maybe.package"].fillna("-").tolist() == ["-", "q"]


def test_a_recursive_model_is_flattened_once(ask: Asked) -> None:
    out = ask(Node, {"name": "a", "next": {"name": "b", "next": None}}, flatten=True)

    assert list(out.columns) == ["n", "name", "next"]
    assert out["next"].tolist() == [{"name": "b", "next": None}]


class Node(BaseModel):
    name: str
    next: Node | None = None


def test_explode_by_a_fields_name_repeats_the_others(ask: Asked) -> None:
    out = ask(Found, FOUND, {**FOUND, "name": "m", "lines": []}, explode="lines", flatten=True)

    assert out.index.tolist() == ["r0", "r0", "r1"]
    assert out["name"].tolist() == ["n", "n", "m"]
    assert out["lines.package"].fillna("-").tolist() == ["a", "b", "-"]
    assert out["lines.version"].fillna(0).tolist() == [1, 0, 0]
    assert ask(Found, FOUND, explode="lines")["lines"].tolist() == FOUND["lines"]


@pytest.mark.parametrize(
    ("field", "words"), [("line", "Did you mean 'lines'"), ("name", "needs a field that is a list")]
)
def test_explode_by_another_name_is_refused(ask: Asked, field: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ask(Found, FOUND, explode=field)


def test_flattened_names_that_are_there_clash(ask: Asked) -> None:
    frame = pd.DataFrame({"deps.package": ["x"]})

    with pytest.raises(NameClashError):
        frame.llm.parse(Found, "{deps.package}", flatten=True, model="sim:openai")


def test_equal_nested_answers_are_duplicates(ask: Asked) -> None:
    out = ask(Found, FOUND, FOUND, {**FOUND, "name": "other"}).drop(columns="n")

    assert len(out.drop_duplicates()) == 2
    assert out.groupby("deps").size().tolist() == [3]


def test_a_pickle_needs_nothing_of_this_package(ask: Asked) -> None:
    out = ask(Found, FOUND)

    assert b"pllm_notebook" not in pickle.dumps(out)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(out)), out)


# One type, one shape: what a column of Arrow can hold. Of the others each row may be another, so JSON text is for them.
_SHAPELESS = {
    "mixed_literal", "dict", "dict_keys", "tuples", "knot", "tagged_union", "union", "unclear_union", "dict_tree",
    "root_dict", "tuple", "dict_of_lists", "union_of_models", "many_unions",
}  # fmt: skip


@pytest.mark.sample(30)
@pytest.mark.parametrize("case", ZOO, ids=lambda case: case.id)
@pytest.mark.parametrize("nested", ["data", "json"])
@settings(max_examples=3, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_every_type_goes_on(cache_dir: object, case: ZooCase, nested: str, rows: list[int]) -> None:
    frame = pd.DataFrame({"n": rows})
    for model in ("sim:openai", "sim:anthropic", "sim:google"):
        try:
            out = frame.llm.parse(case.kind, "{n}", nested=nested, model=model, progress=False)
            break
        except UnsupportedSchemaError:
            continue
    else:
        return  # no provider can be asked for it

    out.to_json(date_format="iso")
    out.drop_duplicates()
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(out)), out)
    if nested == "json" or case.id not in _SHAPELESS:
        file = io.BytesIO()
        out.to_parquet(file)
        back = pd.read_parquet(io.BytesIO(file.getvalue()))
        if int(pa.__version__.partition(".")[0]) < 19:  # pandas restores "string" as "str" there
            back = back.astype(out.dtypes)
        pd.testing.assert_frame_equal(back, out)


# A series.


def test_a_series_gives_a_series_where_the_answer_has_no_fields(cache_dir: object) -> None:
    pllm.configure(sim={"answers": lambda request: _told(request)}, model="sim:openai")
    df = pd.DataFrame({"text": ["a", "b", None]}, index=[7, 3, 5])

    df["fr"] = df["text"].llm.complete("Translate {value}")
    flags = df["text"].llm.parse(bool, "{value}?", column="flag", prefix="is_")

    assert df["fr"].fillna("-").tolist() == ["TRANSLATE A", "TRANSLATE B", "-"]
    assert (flags.name, str(flags.dtype), flags.index.tolist()) == ("is_flag", "boolean", [7, 3, 5])
    assert list(flags.attrs) == ["pllm_run"]
    assert flags.llm.run is pllm.runs()[-1]
    assert df["text"].llm.submit(bool, "{value}?").result().tolist()[:2] == [True, True]


def _told(request: SimRequest) -> Any:
    return {"value": True} if request.schema else request.prompt.upper()


async def _awaited(series: pd.Series[Any]) -> list[Any]:
    return [await series.llm.acomplete("{value}"), await series.llm.aparse(bool, "{value}")]


def test_awaited_too_and_a_frame_where_a_column_stands_beside_it(cache_dir: object) -> None:
    import asyncio

    pllm.configure(sim={"answers": _told}, model="sim:openai")
    series = pd.Series(["a"], name="text")

    texts, flags = asyncio.run(_awaited(series))

    assert (texts.tolist(), texts.name) == (["A"], "answer")
    assert flags.tolist() == [True]
    assert list(series.llm.complete("{value}", error_column="why").columns) == ["text", "answer", "why"]
    assert "answer" in series.llm.preview(bool, "{value}")._repr_html_()


def test_float_columns_keep_nan_as_na() -> None:
    assert array_of(Column("x", Kind.REAL), [1.0, float("nan"), None]).isna().tolist() == [False, True, True]
    assert array_of(Column("x", Kind.DATA), [np.nan, None])[1] is None
