"""Result columns: the dtype follows from the type and its validators, never from the rows; and it goes on."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import json
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

import pytest
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
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.sim import SimRequest
from tests.zoo import ZOO, ZooCase

from .frame_libraries import LIBRARIES, FrameKit

Mood = Literal["pos", "neg"]
Asked = Callable[..., Any]


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


@pytest.fixture
def ask(cache_dir: object, kit: FrameKit) -> Asked:
    """Ask a type of a frame whose rows are answered by the values that are given."""

    def asked(kind: Any, *values: Any, **options: Any) -> Any:
        given = dict(enumerate(values))
        pllm.configure(sim={"answers": lambda request: given[int(request.prompt)]}, model="sim:openai")
        frame = kit.frame({"n": list(range(len(values)))})
        return kit.llm(frame).parse(kind, "{n}", **{"salt": str(values), "max_repairs": 0} | options)

    return asked


def array_of(kit: FrameKit, column: Column, values: list[Any]) -> Any:
    """Build a column of answers as the library's adapter does."""
    table = table_of(kit.frame({"n": [0]}))
    assert table is not None
    return table.frame_library.array(column, values)


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


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    "kind",
    [After, Wrapped, Annotated_, Optional_, OfModel, PostInit, OfDataclass, OfCustom],
    ids=lambda kind: kind.__name__,
)
def test_what_a_validator_makes_of_a_literal_is_kept(ask: Asked, kit: FrameKit, kind: Any) -> None:
    out = ask(kind, {"it": "pos"}, {"it": "neg"})

    assert kit.column(out, "it") == ["POS", "NEG"]
    assert kit.dtypes(out)["it"] == kit.DTYPES["open" if kind is OfCustom else "text"]
    assert kit.values(kit.llm(out).status) == ["ok", "ok"]


def test_an_enum_whose_validator_gives_text_is_text(ask: Asked, kit: FrameKit) -> None:
    class Of(BaseModel):
        it: Annotated[Colour, AfterValidator(lambda value: value.value.upper())]

    out = ask(Of, {"it": "red"})

    assert (kit.column(out, "it"), kit.dtypes(out)["it"]) == (["RED"], kit.DTYPES["text"])


def test_a_type_without_fields_follows_its_validators_too(ask: Asked, kit: FrameKit) -> None:
    out = ask(Annotated[Mood, AfterValidator(upper)], {"value": "pos"})

    assert (kit.column(out, "answer"), kit.dtypes(out)["answer"]) == (["POS"], kit.DTYPES["text"])


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


def test_a_validator_that_comes_first_leaves_a_value_of_the_type_hence_a_category(ask: Asked, kit: FrameKit) -> None:
    out = ask(Before, {"it": "POS"})

    assert kit.column(out, "it") == ["pos"]
    assert kit.categories(out["it"]) == ["pos", "neg"]


def test_flags_that_are_put_together_are_numbers(ask: Asked, kit: FrameKit) -> None:
    class Of(BaseModel):
        it: Right

    array = array_of(kit, Column("it", Kind.INTEGER), [Right.READ | Right.WRITE, Right.READ, None])

    assert kit.values(array) == [3, 1, None]
    assert kit.dtypes(ask(Of, {"it": 1}))["it"] == kit.DTYPES["integer"]


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


def test_a_validators_return_annotation_is_the_dtype(ask: Asked, kit: FrameKit) -> None:
    out = ask(Counted, {"it": "abc"}, {"it": "a"})

    assert (kit.column(out, "it"), kit.dtypes(out)["it"]) == ([3, 1], kit.DTYPES["integer"])


@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_a_value_that_the_column_cannot_hold_fails_its_row_alone(ask: Asked, kit: FrameKit) -> None:
    for values, expected in ([{"it": "text"}, {"it": "number"}], ["text", None]), ([{"it": "number"}], [None]):
        out = ask(CountedUnsaid, *values)

        assert (kit.column(out, "it"), kit.dtypes(out)["it"]) == (expected, kit.DTYPES["text"])
        assert kit.column(kit.llm(out).errors, "kind") == ["schema"]
        assert kit.column(kit.llm(out).errors, "message") == [
            "it: a validator made 6, and the column is one of str; annotate what the validator returns"
        ]


@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_the_same_holds_for_the_items_of_an_exploded_list(ask: Asked, kit: FrameKit) -> None:
    out = ask(list[CountedUnsaid], {"value": [{"it": "t"}, {"it": "two"}]}, {"value": [{"it": "one"}]}, explode=True)

    assert kit.column(out, "it") == ["t", "two", None]


@pytest.mark.parametrize("values", [[1, 2], ["a", "b"], [1, "a"]])
def test_a_union_is_of_an_open_form_whatever_the_rows_are(ask: Asked, kit: FrameKit, values: list[Any]) -> None:
    class Of(BaseModel):
        it: int | str

    out = ask(Of, *({"it": value} for value in values))

    assert (kit.column(out, "it"), kit.dtypes(out)["it"]) == (kit.open_values(*values), kit.DTYPES["open"])


def test_samples_have_the_dtypes_of_the_result(cache_dir: object, kit: FrameKit) -> None:
    pllm.configure(sim={"answers": lambda request: {"it": "pos"}}, model="sim:openai")
    out = kit.llm(kit.frame({"t": ["a", "b"]})).parse(After, "{t}", samples=2)

    samples = kit.llm(out).samples

    assert kit.column(samples, "it") == ["POS"] * 4
    assert kit.dtypes(samples)["it"] == kit.DTYPES["text"]
    assert kit.names(samples) == [
        "position", "label", "model", "sample", "chosen", "decided", "it", "score", "failure",
    ]  # fmt: skip


AT_EIGHT = dt.datetime(2024, 5, 1, 8)


@pytest.mark.sample(3)
@pytest.mark.filterwarnings("ignore:.*rows failed")
@pytest.mark.parametrize(
    ("kind", "dtype", "first"),
    [
        (dt.datetime, "moment", AT_EIGHT),
        (AwareDatetime, "moment in UTC", AT_EIGHT.replace(tzinfo=dt.UTC)),
        (NaiveDatetime, "moment", None),
    ],
)
def test_the_type_decides_the_zone_and_no_row(
    ask: Asked, kit: FrameKit, kind: Any, dtype: str, first: dt.datetime | None
) -> None:
    class At(BaseModel):
        at: kind

    # Neither the rows that have a zone nor those that have none.
    for answers in (["2024-05-01T10:00:00+02:00"] * 2, ["2024-05-01T08:00:00"] * 2):
        out = ask(At, *({"at": answer} for answer in answers))
        assert kit.dtypes(out)["at"] == kit.DTYPES[dtype]
        if "+" in answers[0]:
            assert kit.column(out, "at")[0] == first


@pytest.mark.filterwarnings("ignore:.*rows failed", "ignore:Column 'exact' holds text")
def test_a_number_beyond_64_bits_fails_its_row_and_leaves_the_dtype(ask: Asked, kit: FrameKit) -> None:
    class Counted(BaseModel):
        count: int
        exact: Decimal

    out = ask(Counted, f'{{"count": {2**63}, "exact": {2**70}}}', f'{{"count": {-(2**63)}, "exact": {2**70}}}')

    assert kit.dtypes(out)["count"] == kit.DTYPES["integer"]
    assert kit.column(out, "count") == [None, -(2**63)]
    # With 18 decimals there is no room for it, so the column is text there, with a warning.
    assert kit.column(out, "exact") == [None, Decimal(2**70) if kit.name == "pandas" else str(2**70)]
    assert kit.column(kit.llm(out).errors, "message") == [
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


@pytest.mark.sample(5)
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
    ask: Asked, kit: FrameKit, answer: dict[str, Any], options: dict[str, Any], at: str
) -> None:
    # As text: the simulator's own JSON holds no such number.
    out = ask(Box, json.dumps(answer), BOX | {"numbers": [1], "sizes": [BOX["size"]]}, **options)

    assert (kit.dtypes(out)[at], kit.column(out, at)) == (kit.DTYPES["integer"], [None, 1])
    assert kit.column(kit.llm(out).errors, "kind") == ["schema"]
    assert kit.column(kit.llm(out).errors, "message") == [
        f"{at}: 9223372036854775808 is beyond 64 bits; annotate Decimal or str for larger numbers"
    ]


class Deep(BaseModel):
    numbers: list[int] = []
    sizes: list[Size] = []
    counts: dict[str, int] = {}
    maybe: tuple[int, ...] | None = None


@pytest.mark.sample(6)
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
def test_a_value_without_the_fields_that_are_columns_fails_its_row_alone(ask: Asked, kit: FrameKit) -> None:
    out = ask(Resized, {"size": {"count": 9, "most": 1}}, {"size": {"count": 1, "most": 1}}, flatten=True)

    assert (kit.dtypes(out)["size.count"], kit.column(out, "size.count")) == (kit.DTYPES["integer"], [None, 1])
    assert kit.column(kit.llm(out).errors, "message") == [
        "size: a validator made 'large', which has no such fields; annotate what the validator returns"
    ]


def test_a_cached_answer_with_a_number_that_is_none_is_repaired(cache_dir: object, kit: FrameKit) -> None:
    def share(**more: Any) -> type[BaseModel]:
        return create_model("Share", share=(Annotated[float, Field(**more)], ...))

    answers = iter(['{"share": NaN}', '{"share": 0.25}'])
    pllm.configure(sim={"answers": lambda request: next(answers)}, model="sim:openai")
    frame = kit.frame({"n": [1]})
    earlier = kit.llm(frame).parse(share(allow_inf_nan=True), "{n}")
    assert kit.rows(kit.llm(earlier).errors) == []

    out = kit.llm(frame).parse(share(), "{n}")

    assert kit.column(out, "share") == [0.25]


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


def test_nested_values_are_plain_data(ask: Asked, kit: FrameKit) -> None:
    (row,) = kit.rows(ask(Found, FOUND))

    assert row == {"n": 0, **FOUND, "tags": ["x", "y"]}
    assert isinstance(row["deps"], dict)


def test_nested_values_are_objects_or_json_where_that_is_asked(ask: Asked, kit: FrameKit) -> None:
    text = '{"package":"p","version":1}'
    # Arrow has no column of Python's objects.
    objects = [text] if kit.name == "arrow" else [Deps(package="p", version=1)]
    assert kit.column(ask(Found, FOUND, nested="model"), "deps") == objects
    out = ask(Found, FOUND, nested="json")

    assert (kit.column(out, "deps"), kit.dtypes(out)["deps"]) == ([text], kit.DTYPES["text"])
    assert kit.column(out, "maybe") == [None]
    with pytest.raises(UsageError, match="nested is one of"):
        ask(Found, FOUND, nested="objects")


def test_flatten_gives_a_column_for_each_field_of_a_nested_model(ask: Asked, kit: FrameKit) -> None:
    out = ask(Found, FOUND, {**FOUND, "maybe": {"package": "q", "version": 2}}, flatten=True)

    assert kit.names(out) == [
        "n", "name", "deps.package", "deps.version", "maybe.package", "maybe.version", "lines", "tags",
    ]  # fmt: skip
    assert kit.column(out, "deps.version") == [1, 1]
    assert kit.dtypes(out)["deps.version"] == kit.dtypes(out)["maybe.version"] == kit.DTYPES["integer"]
    assert kit.column(out, "maybe.package") == [None, "q"]


def test_a_recursive_model_is_flattened_once(ask: Asked, kit: FrameKit) -> None:
    out = ask(Node, {"name": "a", "next": {"name": "b", "next": None}}, flatten=True)

    assert kit.names(out) == ["n", "name", "next"]
    assert kit.column(out, "next") == [{"name": "b", "next": None}]


class Node(BaseModel):
    name: str
    next: Node | None = None


def test_explode_by_a_fields_name_repeats_the_others(ask: Asked, kit: FrameKit) -> None:
    out = ask(Found, FOUND, {**FOUND, "name": "m", "lines": []}, explode="lines", flatten=True)

    assert kit.column(out, "n") == [0, 0, 1]
    assert kit.column(out, "name") == ["n", "n", "m"]
    assert kit.column(out, "lines.package") == ["a", "b", None]
    assert kit.column(out, "lines.version") == [1, None, None]
    assert kit.column(ask(Found, FOUND, explode="lines"), "lines") == FOUND["lines"]


@pytest.mark.parametrize(
    ("field", "words"), [("line", "Did you mean 'lines'"), ("name", "needs a field that is a list")]
)
def test_explode_by_another_name_is_refused(ask: Asked, field: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ask(Found, FOUND, explode=field)


def test_flattened_names_that_are_there_clash(cache_dir: object, kit: FrameKit) -> None:
    frame = kit.frame({"deps.package": ["x"]})

    with pytest.raises(NameClashError):
        kit.llm(frame).parse(Found, "{deps.package}", flatten=True, model="sim:openai")


def test_a_pickle_needs_nothing_of_this_package(ask: Asked, kit: FrameKit) -> None:
    out = ask(Found, FOUND)
    # An attribute of a Polars frame is in no pickle; what pandas and Arrow keep is the run's id.
    again = pickle.loads(pickle.dumps(out))

    assert b"pllm_notebook" not in pickle.dumps(out)
    assert kit.rows(again) == kit.rows(out)
    assert kit.dtypes(again) == kit.dtypes(out)


@pytest.mark.sample(12)
@pytest.mark.parametrize("case", ZOO, ids=lambda case: case.id)
@pytest.mark.parametrize("nested", ["data", "json"])
@pytest.mark.parametrize("library", LIBRARIES[1:], ids=repr)  # that of pandas, and what else pandas makes, is beside it
@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_every_type_goes_on(cache_dir: object, library: FrameKit, case: ZooCase, nested: str) -> None:
    frame = library.frame({"n": [1, 2, 2]})
    for model in ("sim:openai", "sim:anthropic", "sim:google"):
        try:
            out = library.llm(frame).parse(case.kind, "{n}", nested=nested, model=model, progress=False)
            break
        except UnsupportedSchemaError:
            continue
    else:
        return  # no provider can be asked for it

    again = pickle.loads(pickle.dumps(out))
    assert library.dtypes(again) == library.dtypes(out)
    for same in (again, library.stored(out)):
        assert repr(library.rows(same)) == repr(library.rows(out))


# A column alone.


def _said(request: SimRequest) -> Any:
    return {"value": True} if request.schema else request.prompt.upper()


def test_a_column_alone_gives_a_column_where_the_answer_has_no_fields(cache_dir: object, kit: FrameKit) -> None:
    pllm.configure(sim={"answers": _said}, model="sim:openai")
    asked = kit.llm(kit.series(["a", "b", None], "text"))

    texts = asked.complete("Translate {value}")
    flags = asked.parse(bool, "{value}?", column="flag", prefix="is_")

    assert kit.values(texts) == ["TRANSLATE A", "TRANSLATE B", None]
    assert kit.values(flags) == [True, True, None]
    assert type(flags) is type(kit.series([True]))
    assert kit.values(asked.submit(bool, "{value}?").result())[:2] == [True, True]


async def _awaited(llm: Any) -> list[Any]:
    return [await llm.acomplete("{value}"), await llm.aparse(bool, "{value}")]


def test_awaited_too_and_a_frame_where_a_column_stands_beside_it(cache_dir: object, kit: FrameKit) -> None:
    pllm.configure(sim={"answers": _said}, model="sim:openai")
    asked = kit.llm(kit.series(["a"], "value"))

    texts, flags = asyncio.run(_awaited(asked))

    assert (kit.values(texts), kit.values(flags)) == (["A"], [True])
    assert kit.names(asked.complete("{value}", error_column="why")) == ["value", "answer", "why"]
    assert "true" in asked.preview(bool, "{value}")._repr_html_().lower()
