"""Tools: what they are made of, what a provider is told of them, and what is read of a call."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import FailureKind
from pllm_notebook.messages_types import ToolCall
from pllm_notebook.providers.anthropic.facts import DIALECT as ANTHROPIC
from pllm_notebook.providers.google.facts import DIALECT as GOOGLE
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import GRAMMAR, PLAIN, Dialect, Invalid
from pllm_notebook.tools import CalledTool, StructuredTool, Toolbox
from pllm_notebook.tools.docstrings import parse_docstring

DIALECTS = [OPENAI, ANTHROPIC, GOOGLE, GRAMMAR, PLAIN]


class Order(BaseModel):
    """Order something."""

    item: str
    counts: dict[str, int] = {}


@dataclass
class Place:
    """A place."""

    city: str


def shout(word: str) -> str:
    """Say it aloud."""
    return word.upper()


def weather(
    city: str, unit: Literal["c", "f"] = "c", days: Annotated[int, Field(ge=1, description="how many")] = 3
) -> Any:
    """Give the weather.

    It is invented.

    Args:
        city: Name of the city,
            as its people call it.
        unit: Celsius or Fahrenheit.
        days: Not this.

    Returns:
        What there is.
    """
    return {"city": city, "unit": unit, "days": days}


@pytest.mark.parametrize(
    "doc",
    [
        """Add.

        Args:
            a (int): First
                number.
            *rest: More: of them.

        Returns:
            b: the sum.
        """,
        """Add.

        Parameters
        ----------
        a : int
            First
            number.
        *rest
            More: of them.

        Returns
        -------
        b : int
            The sum.
        """,
        """Add.

        :param int a: First
            number.
        :param rest: More: of them.
        :return: The sum.
        """,
    ],
    ids=["google", "numpy", "sphinx"],
)
def test_docstrings_are_read_in_three_forms(doc: str) -> None:
    assert parse_docstring(doc) == ("Add.", {"a": "First number.", "rest": "More: of them."})


def test_a_docstring_that_has_no_sections_is_all_description() -> None:
    assert parse_docstring("Add.\n\n    Really: all of them.\n    Notes on this follow.") == (
        "Add.\n\nReally: all of them.\nNotes on this follow.",
        {},
    )
    assert parse_docstring(None) == ("", {})


def test_a_function_says_what_it_is_for_and_what_it_takes() -> None:
    tool = StructuredTool.of(weather)

    properties = tool.json_schema["properties"]
    assert (tool.name, tool.description) == ("weather", "Give the weather.\n\nIt is invented.")
    assert {name: said["description"] for name, said in properties.items()} == {
        "city": "Name of the city, as its people call it.",
        "unit": "Celsius or Fahrenheit.",
        "days": "how many",
    }
    assert tool.json_schema["required"] == ["city"]
    assert tool.runnable


def test_a_function_is_called_with_what_was_given_and_its_own_defaults() -> None:
    tool = StructuredTool.of(weather)

    arguments = tool.parse('{"city": "Rome", "unit": "f"}')

    assert arguments == {"city": "Rome", "unit": "f"}
    assert tool.run(arguments) == '{"city":"Rome","unit":"f","days":3}'


def test_parameters_may_have_names_that_no_field_can_have() -> None:
    def odd(schema: str, model_config: int, _x: bool = False, self: str = "") -> str:
        return f"{schema}{model_config}{_x}{self}"

    tool = StructuredTool.of(odd)

    assert tool.run(tool.parse('{"schema": "a", "model_config": 1, "_x": true}')) == "a1True"


def test_an_argument_is_validated_to_the_type_of_its_parameter() -> None:
    def buy(order: Order) -> str:
        return type(order).__name__

    tool = StructuredTool.of(buy)

    assert tool.run(tool.parse('{"order": {"item": "tea"}}')) == "Order"


@pytest.mark.parametrize(
    ("gives", "told"),
    [("text", "text"), (None, "null"), (3, "3"), ([1, "a"], '[1,"a"]'), (Order(item="x"), '{"item":"x","counts":{}}'),
     ("half \ud800", "half ?"), (2**70, "1180591620717411303424"),
     ([Place("Rome")], '[{"city":"Rome"}]'), ({"é": [2**70]}, '{"é":[1180591620717411303424]}')],
)  # fmt: skip
def test_text_goes_back_as_it_is_and_anything_else_as_json(gives: Any, told: str) -> None:
    def give() -> Any:
        return gives

    assert StructuredTool.of(give).run({}) == told


def test_a_tool_is_pickled_with_what_is_behind_it() -> None:
    schema = {"title": "pour", "type": "object", "properties": {"into": {"type": "string"}}}
    tools = [StructuredTool.of(source) for source in (Order, shout, schema)]
    tools.append(tools[0].model_copy(update={"description": "In other words."}))

    again: list[StructuredTool] = pickle.loads(pickle.dumps(tools))

    assert again == tools
    assert isinstance(again[0].parse('{"item": "tea"}'), Order)
    assert again[1].run({"word": "tea"}) == "TEA"


def test_a_copy_of_a_tool_is_offered_with_its_own_words() -> None:
    tool = StructuredTool.of(shout)
    tool.fit(PLAIN)

    copied = tool.model_copy(update={"description": "Whisper."})

    assert copied.fit(PLAIN).description == "Whisper."
    assert copied.run({"word": "tea"}) == "TEA"


def test_an_async_function_runs_to_its_end_also_inside_a_running_loop() -> None:
    async def later(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    tool = StructuredTool.of(later)

    async def inside() -> str:
        return tool.run({"a": 2})

    assert (tool.run({"a": 1}), asyncio.run(inside())) == ("2", "3")


def test_a_model_gives_its_own_instances() -> None:
    tool = StructuredTool.of(Order)

    assert (tool.name, tool.description, tool.runnable) == ("Order", "Order something.", False)
    assert tool.parse('{"item": "tea", "counts": {"a": 1}}') == Order(item="tea", counts={"a": 1})
    with pytest.raises(UsageError, match="There is no function behind the tool 'Order'"):
        tool.run(Order(item="tea"))


def test_a_dataclass_is_a_tool_too() -> None:
    @dataclass
    class Move:
        """Move."""

        steps: int

    assert StructuredTool.of(Move).parse('{"steps": 2}') == Move(2)


SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
LOUD = {"type": "OBJECT", "properties": {"x": {"type": "INTEGER"}}}
GO = {"name": "go", "description": "Go."}


@pytest.mark.parametrize(
    "definition",
    [
        {"type": "function", "function": GO | {"parameters": SCHEMA}},
        {"type": "function"} | GO | {"parameters": SCHEMA},
        GO | {"input_schema": SCHEMA},
        GO | {"parameters": LOUD},
        {"functionDeclarations": [GO | {"parametersJsonSchema": SCHEMA}]},
        {"title": "go", "description": "Go."} | SCHEMA,
    ],
    ids=["chat", "responses", "anthropic", "google", "declarations", "schema"],
)
def test_every_providers_own_definition_is_understood(definition: dict[str, Any]) -> None:
    tool = StructuredTool.of(definition)

    assert (tool.name, tool.description) == ("go", "Go.")
    assert tool.parse('{"x": 3}') == {"x": 3}
    assert isinstance(tool.parse('{"x": "three"}'), Invalid)


def test_a_schema_is_checked_for_types_bounds_enums_and_what_is_required() -> None:
    schema = {
        "title": "go",
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1},
            "unit": {"enum": ["c", "f", None]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 2}, "maxItems": 2},
            "either": {"anyOf": [{"type": "string"}, {"type": "number"}]},
            "at": {"$ref": "#/$defs/At"},
            "class-name": {"type": ["string", "null"]},
        },
        "required": ["n"],
        "additionalProperties": False,
        "$defs": {"At": {"type": "object", "properties": {"x": {"type": "number"}, "next": {"$ref": "#/$defs/At"}}}},
    }
    tool = StructuredTool.of(schema)

    whole = '{"n":1,"unit":null,"tags":["a"],"either":2.5,"at":{"x":1,"next":{"any":1}},"class-name":null}'
    assert tool.parse(whole) == {
        "n": 1, "unit": None, "tags": ["a"], "either": 2.5, "at": {"x": 1.0, "next": {"any": 1}}, "class-name": None,
    }  # fmt: skip
    for wrong, kind in [
        ("{}", "missing"),
        ('{"n":0}', "greater_than_equal"),
        ('{"n":1,"unit":"k"}', "literal_error"),
        ('{"n":1,"tags":["abc"]}', "string_too_long"),
        ('{"n":1,"tags":["a","b","c"]}', "too_long"),
        ('{"n":1,"other":2}', "extra_forbidden"),
    ]:
        read = tool.parse(wrong)
        assert isinstance(read, Invalid)
        assert [found for _, found in read.errors] == [kind]


@pytest.mark.parametrize("source", [weather, Order], ids=["function", "model"])
def test_a_tool_comes_back_from_its_json_without_what_was_behind_it(source: Any) -> None:
    tool = StructuredTool.of(source)

    back = StructuredTool.model_validate_json(tool.model_dump_json())

    assert back == tool
    assert not back.runnable
    assert back.fit(OPENAI) == tool.fit(OPENAI)
    assert isinstance(back.parse('{"city": 1, "item": 1}'), Invalid)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    "source",
    [weather, Order, {"name": "bare", "input_schema": {"type": "object"}}],
    ids=["function", "model", "mapping"],
)
def test_what_a_provider_writes_in_its_own_form_is_read_back(source: Any, dialect: Dialect) -> None:
    tool = StructuredTool.of(source)

    fitted = tool.fit(dialect)

    assert fitted.schema["type"] == "object"
    assert fitted is tool.fit(dialect)
    pairs = fitted.schema["properties"].get("counts", {}).get("type") == "array"
    counts = '[{"key": "a", "value": 1}]' if pairs else '{"a": 1}'
    if source is Order:
        assert tool.read(f'{{"item": "tea", "counts": {counts}}}', dialect) == Order(item="tea", counts={"a": 1})


def test_a_tool_without_parameters_is_called_with_nothing() -> None:
    def now() -> str:
        """Tell the time."""
        return "noon"

    tool = StructuredTool.of(now)

    assert tool.fit(OPENAI).schema == {"type": "object", "properties": {}, "additionalProperties": False}
    assert tool.fit(OPENAI).strict
    assert tool.run(tool.read("", OPENAI)) == "noon"


def test_a_schema_that_cannot_be_guaranteed_is_sent_without() -> None:
    anything = {"title": "go", "type": "object", "properties": {"data": {}}}

    fitted = StructuredTool.of(anything).fit(OPENAI)

    assert not fitted.strict
    assert "data" in fitted.schema["properties"]


def test_a_tool_that_wants_no_guarantee_keeps_what_may_be_left_out() -> None:
    tool = StructuredTool.of(weather).model_copy(update={"strict": False})

    fitted = tool.fit(OPENAI)

    assert (fitted.strict, fitted.schema["required"]) == (False, ["city"])


def test_calls_are_read_by_name_and_a_stranger_is_told_apart() -> None:
    box = Toolbox.of([weather, Order])
    calls = [ToolCall("1", "weather", '{"city": "Rome", "unit": "c", "days": 1}'), ToolCall("2", "Order", "[]"),
             ToolCall("3", "pay", '{"all": 1}')]  # fmt: skip

    good, wrong, strange = box.read(calls, OPENAI)

    assert good.call == CalledTool("1", "weather", {"city": "Rome", "unit": "c", "days": 1}, calls[0].arguments)
    assert good.invalid is None
    assert wrong.invalid is not None
    assert wrong.tool is not None
    assert wrong.call.arguments == []
    assert strange.tool is None
    assert strange.invalid == Invalid(
        FailureKind.SCHEMA, "the tool 'pay' was not offered; there are weather, Order", (((), "unknown_tool"),)
    )


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (lambda x: x, "A tool needs a name"),
        (3, "A tool is a function, a Pydantic model, a StructuredTool or a mapping, not int."),
        (str, "str has no fields"),
        ({"type": "web_search"}, "The tool 'web_search' is one that the provider runs itself."),
        ({"input_schema": {}}, "A tool that is a mapping is a JSON schema with a title"),
        ({"type": "object", "properties": {}}, "needs a name: put it into the schema's title."),
        ({"name": "two words", "input_schema": {"type": "object"}}, "'two words' cannot be the name of a tool"),
        ({"name": "x" * 65, "input_schema": {"type": "object"}}, "cannot be the name of a tool"),
        ({"functionDeclarations": [{}, {}]}, "with 2 function declarations is several tools"),
    ],
)
def test_what_can_be_no_tool_is_refused_in_words(source: Any, told: str) -> None:
    with pytest.raises(UsageError, match=r"Nothing was sent\.$") as caught:
        StructuredTool.of(source)

    assert told in str(caught.value)


def test_a_definition_whose_schema_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"The tool 'go' has str as its 'parameters'.*Nothing was sent\.$"):
        StructuredTool.of({"name": "go", "parameters": "{}"})


def test_parameters_that_no_model_can_give_are_refused() -> None:
    def untyped(a) -> None: ...  # type: ignore[no-untyped-def]
    def many(*a: int) -> None: ...
    def placed(a: int, /) -> None: ...
    def opaque(a: asyncio.Lock) -> None: ...
    def strange(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for source, told in (
        (untyped, "The parameter 'a' of the tool 'untyped' has no type"),
        (many, "has the parameter '*a', which cannot be passed by name"),
        (placed, "has the parameter 'a', which cannot be passed by name"),
        (strange, "The types of the tool 'strange' cannot be read"),
        (opaque, "The tool 'opaque' has a parameter whose type no schema can describe"),
    ):
        with pytest.raises(UsageError, match=r"Nothing was sent\.$") as caught:
            StructuredTool.of(source)
        assert told in str(caught.value)


def test_a_schema_written_by_hand_that_is_none_is_refused_in_words() -> None:
    tool = StructuredTool.of({"name": "go", "input_schema": {"type": "object", "properties": ["x"]}})

    with pytest.raises(UsageError, match=r"^The JSON schema of the tool 'go' cannot be read: .*Nothing was sent\.$"):
        tool.fit(OPENAI)


@pytest.mark.parametrize(
    ("sources", "choice", "told"),
    [
        ([], "auto", "tools= is an empty list"),
        ([weather, weather], "auto", "Two tools are named 'weather'"),
        ([weather], "wether", "Did you mean 'weather'?"),
    ],
)
def test_tools_that_cannot_be_offered_together_are_refused(sources: list[Any], choice: str, told: str) -> None:
    with pytest.raises(UsageError, match=r"Nothing was sent\.$") as caught:
        Toolbox.of(sources, choice)

    assert told in str(caught.value)


def test_what_a_provider_counts_over_all_tools_is_kept_within_its_limits() -> None:
    def loose(name: str) -> StructuredTool:
        properties = {f"p{n}": {"type": "integer"} for n in range(10)}
        return StructuredTool(name=name, json_schema={"type": "object", "properties": properties})

    box = Toolbox.of([loose("a"), loose("b"), loose("c"), weather])
    many = Toolbox.of([StructuredTool(name=f"t{n}", json_schema={"type": "object"}) for n in range(25)])

    assert [tool.strict for tool in box.fit(ANTHROPIC)] == [True, True, False, True]
    assert [tool.strict for tool in box.fit(OPENAI)] == [True] * 4
    assert [tool.strict for tool in many.fit(ANTHROPIC)] == [True] * 20 + [False] * 5
    assert [tool.strict for tool in many.fit(ANTHROPIC, beside={"type": "object"})].count(True) == 20
