"""The type of an answer: `response_format` everywhere, its old words, and JSON schemas in place of classes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.item_lists import submit_list
from pllm_notebook.schema import OutputType

from .frame_libraries import FrameKit

pytestmark = pytest.mark.every_case  # each library has dtypes of its own


class Named(BaseModel):
    name: str


SCHEMA = {
    "title": "Product review",
    "description": "Facts in a review.",
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "As written."},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "mood": {"enum": ["good", "bad"]},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}},
        "note": {"type": ["string", "null"]},
    },
    "required": ["name", "stars", "mood", "parts"],
    "additionalProperties": False,
    "$defs": {"part": {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]}},
}
ANSWER = {"name": "n", "stars": 3, "mood": "good", "parts": [{"of": "p"}], "note": None}
TEXTS = {"t": ["a", "b"]}


@pytest.fixture
def asked(cache_dir: object) -> list[Any]:
    """Answer with ANSWER, and keep what was asked."""
    seen: list[Any] = []
    pllm.configure(sim={"answers": lambda request: seen.append(request) or ANSWER}, model="sim:openai")
    return seen


def test_the_first_argument_has_one_name_and_an_old_one(asked: list[Any], kit: FrameKit) -> None:
    llm = kit.llm(kit.frame({"t": ["a", "b"]}))

    by_place = llm.parse(Named, "{t}")
    by_name = llm.parse(response_format=Named, prompt="{t}")
    by_old_name = llm.parse(kind=Named, prompt="{t}")

    assert kit.rows(by_name) == kit.rows(by_old_name) == kit.rows(by_place)
    assert kit.dtypes(by_name) == kit.dtypes(by_old_name) == kit.dtypes(by_place)
    assert llm.estimate(response_format=Named, prompt="{t}").rows == 2
    assert len(llm.request_lines(kind=Named, prompt="{t}", cache="refresh").lines) == 2
    with pytest.raises(UsageError, match="the old name of response_format"):
        llm.parse(Named, "{t}", kind=Named)
    with pytest.raises(UsageError, match="parse needs the type of the answer, response_format="):
        llm.parse(prompt="{t}")


@pytest.mark.parametrize("model", ["sim:openai", "sim:anthropic", "sim:google"])
def test_a_json_schema_gives_the_columns_of_its_properties(kit: FrameKit, asked: list[Any], model: str) -> None:
    out = kit.llm(kit.frame(TEXTS)).parse(SCHEMA, "{t}", model=model)

    dtypes = kit.dtypes(out)
    assert kit.names(out) == ["t", "name", "stars", "mood", "parts", "note"]
    assert [dtypes[name] for name in ("name", "stars", "note")] == [
        kit.DTYPES[of] for of in ("text", "integer", "text")
    ]
    # A part may have other properties, so its form is open.
    assert kit.column(out, "parts") == ([[{"of": "p"}]] if kit.name == "pandas" else [['{"of":"p"}']]) * 2
    assert kit.categories(out["mood"]) == ["good", "bad"]


def test_a_json_schema_gives_columns_of_each_librarys_types(asked: list[Any], kit: FrameKit) -> None:
    part = SCHEMA["$defs"]["part"]  # type: ignore[index]
    closed = {**SCHEMA, "$defs": {"part": {**part, "additionalProperties": False}}}  # else its form is open: JSON text

    out = kit.llm(kit.frame({"t": ["a"]})).parse(closed, "{t}")

    assert kit.rows(out) == [{"t": "a", **ANSWER}]
    parts = {
        "pandas": "object",
        "polars": "List(Struct({'of': String}))",
        "arrow": "list<item: struct<of: string>>",
    }
    assert kit.dtypes(out)["parts"] == parts[kit.name]


def test_a_json_schema_is_asked_for_as_it_is_written(kit: FrameKit, asked: list[Any]) -> None:
    kit.llm(kit.frame({"t": ["a"]})).parse(SCHEMA)

    assert asked[0].schema["properties"]["name"]["description"] == "As written."
    assert asked[0].system.startswith("Facts in a review.\n\nFields:\n- name: As written.")
    assert OutputType.of(SCHEMA).name == "Product_review"


@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_an_answer_outside_a_json_schema_is_a_failure(kit: FrameKit, cache_dir: object) -> None:
    pllm.configure(sim={"answers": lambda request: {**ANSWER, "stars": 9}}, model="sim:openai")

    out = kit.llm(kit.frame({"t": ["a"]})).parse(SCHEMA, "{t}", max_repairs=0)

    assert kit.column(kit.llm(out).errors, "kind") == ["schema"]


def test_what_openais_client_takes_around_a_schema_is_read(kit: FrameKit, asked: list[Any]) -> None:
    around = {"type": "json_schema", "json_schema": {"name": "review", "schema": SCHEMA, "strict": True}}

    assert kit.column(kit.llm(kit.frame(TEXTS)).parse(around, "{t}"), "stars") == [3, 3]
    assert submit_list(["a"], SCHEMA, "{value}").result() == [ANSWER]


def test_a_schema_of_a_single_value_is_one_column(cache_dir: object, kit: FrameKit) -> None:
    pllm.configure(sim={"answers": lambda request: {"value": "good"}}, model="sim:openai")

    flags = kit.llm(kit.series(["a", "b"], "t")).parse({"enum": ["good", "bad"]}, "{value}")

    assert kit.values(flags) == ["good", "good"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"name": str}, "not a JSON schema"),
        ({"name": "string"}, "it has none of"),
        ({"type": "json_object"}, "is not one of the types"),
        ({"type": "json_schema"}, "it has none of"),
        ({}, "it has none of"),
        ({"type": "object", "properties": ["name"]}, "is a mapping from fields to schemas"),
    ],
)
def test_a_mapping_that_is_no_schema_is_refused_before_anything_is_sent(
    kit: FrameKit, asked: list[Any], schema: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as error:
        kit.llm(kit.frame(TEXTS)).parse(schema, "{t}")

    assert "Nothing was sent." in str(error.value)
    assert asked == []
