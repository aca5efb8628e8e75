"""Every type of the zoo with every dialect: it fits and comes back, or is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from pllm_notebook.exceptions import UnsupportedSchemaError
from pllm_notebook.providers.anthropic.facts import DIALECT as ANTHROPIC
from pllm_notebook.providers.google.facts import DIALECT as GOOGLE
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import GRAMMAR, PLAIN, Dialect, OutputType
from tests.zoo import ZOO, ZooCase

DIALECTS = [OPENAI, ANTHROPIC, GOOGLE, GRAMMAR, PLAIN]

# What is refused, and the field that the error names. All else fits.
REFUSED: dict[str, dict[str, str]] = {
    "any": {"openai": "extra", "anthropic": "extra", "google": "extra"},
    "bare_dict": {"openai": "extra", "anthropic": "extra", "google": "extra"},
    "bare_list": {"openai": "extra", "anthropic": "extra", "google": "extra"},
    "empty": {"openai": "", "anthropic": "", "google": "", "grammar": "", "plain": ""},
    "unclear_union": {"openai": "value", "anthropic": "value"},
    "tree": {"anthropic": "children[]"},
    "strict_tree": {"anthropic": "children[]", "google": "children[]"},
    "dict_tree": {"anthropic": "children{}"},
    "many_optional": {"anthropic": ""},
    "many_unions": {"anthropic": ""},
    "deep_11": {"openai": ""},
    "big_enum": {"openai": ""},
}

EVERY = [pytest.param(one, dialect, id=f"{one.id}-{dialect.name}") for one in ZOO for dialect in DIALECTS]
FITTING = [param for param in EVERY if param.values[1].name not in REFUSED.get(param.values[0].id, {})]
REFUSING = [param for param in EVERY if param.values[1].name in REFUSED.get(param.values[0].id, {})]


def dress(value: Any, shape: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Write *value* the way a provider that was given *shape* would."""
    if "$ref" in shape:
        return dress(value, root["$defs"][shape["$ref"].rpartition("/")[2]], root)
    if "anyOf" in shape:
        for branch in shape["anyOf"]:
            written = dress(value, branch, root)
            if is_valid(written, branch, root):
                return written
        raise AssertionError(f"{value!r} fits no branch of {shape}")
    properties = shape.get("properties", {})
    if isinstance(value, dict) and shape.get("type") == "array":
        inner = shape["items"]["properties"]["value"]
        return [{"key": key, "value": dress(item, inner, root)} for key, item in value.items()]
    if isinstance(value, list) and shape.get("type") == "object":
        return {name: dress(item, properties[name], root) for name, item in zip(properties, value, strict=True)}
    if isinstance(value, dict):
        extra = shape.get("additionalProperties")
        return {
            name: dress(item, properties.get(name, extra if isinstance(extra, dict) else {}), root)
            for name, item in value.items()
        }
    if isinstance(value, list):
        prefix = shape.get("prefixItems", [])
        rest = shape.get("items", {})
        return [dress(item, prefix[n] if n < len(prefix) else rest, root) for n, item in enumerate(value)]
    return value


def is_valid(value: Any, shape: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    return Draft202012Validator({**shape, "$defs": root.get("$defs", {})}).is_valid(value)


def nodes(shape: Any) -> Iterator[Mapping[str, Any]]:
    """Every schema in *shape*, definitions too; names of properties are not taken for keywords."""
    if isinstance(shape, dict):
        yield shape
        for keyword, inner in shape.items():
            if keyword in ("properties", "$defs"):
                for one in inner.values():
                    yield from nodes(one)
            elif keyword in ("anyOf", "prefixItems"):
                for one in inner:
                    yield from nodes(one)
            elif keyword in ("items", "additionalProperties", "propertyNames"):
                yield from nodes(inner)


@pytest.mark.parametrize(("one", "dialect"), FITTING)
def test_a_reply_to_the_fitted_schema_comes_back_as_the_value(one: ZooCase, dialect: Dialect) -> None:
    fitted = OutputType.of(one.kind).fit(dialect)
    answer = {"value": one.good} if fitted.wrapped else one.good
    reply = dress(answer, fitted.schema, fitted.schema)
    Draft202012Validator.check_schema(fitted.schema)
    Draft202012Validator(fitted.schema).validate(reply)

    parsed = fitted.parse(json.dumps(reply))

    assert parsed.failure is None
    assert parsed.value == one.value
    assert type(parsed.value) is type(one.value)
    assert fitted.parse_many([orjson.dumps(reply)] * 3) == [one.value] * 3


@pytest.mark.parametrize(("one", "dialect"), REFUSING)
def test_what_cannot_be_expressed_is_refused_by_name(one: ZooCase, dialect: Dialect) -> None:
    with pytest.raises(UnsupportedSchemaError) as caught:
        OutputType.of(one.kind).fit(dialect)

    assert caught.value.field == REFUSED[one.id][dialect.name]
    assert caught.value.provider == dialect.taker
    assert dialect.taker in str(caught.value)
    assert str(caught.value).endswith("Nothing was sent.")


@pytest.mark.parametrize(("one", "dialect"), FITTING)
def test_the_root_is_a_plain_object(one: ZooCase, dialect: Dialect) -> None:
    schema = OutputType.of(one.kind).fit(dialect).schema

    assert schema["type"] == "object"
    assert schema["properties"]
    assert not schema.keys() & {"anyOf", "oneOf", "$ref", "title", "$schema", "discriminator"}


@pytest.mark.parametrize(("one", "dialect"), FITTING)
def test_nothing_but_the_asked_for_dialect_is_said(one: ZooCase, dialect: Dialect) -> None:
    structure = {"type", "description", "properties", "required", "items", "anyOf", "enum", "$ref", "$defs"}
    allowed = structure | dialect.keywords | {"format", "additionalProperties"}
    allowed |= {"const"} if dialect.const else set()
    allowed |= {"prefixItems"} if dialect.tuples else set()
    allowed |= {"propertyOrdering"} if dialect.ordering else set()
    allowed |= {"default"} if dialect.defaults else set()

    for node in nodes(OutputType.of(one.kind).fit(dialect).schema):
        assert node.keys() <= allowed
        if dialect.formats is not None and "format" in node:
            assert node["format"] in dialect.formats
        if dialect.ref_siblings != "keep" and "$ref" in node:
            assert set(node) == {"$ref"}


# OpenAI's rules, written down a second time from its guide and not from the dialect.
OPENAI_BANNED = {
    "oneOf", "allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties",
    "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties", "unevaluatedItems", "contains",
    "minContains", "maxContains", "uniqueItems", "default", "prefixItems", "title", "discriminator", "examples",
}  # fmt: skip


@pytest.mark.parametrize("one", [param.values[0] for param in FITTING if param.values[1] is OPENAI], ids=lambda c: c.id)
def test_openai_gets_only_what_its_guide_allows(one: ZooCase) -> None:
    schema = OutputType.of(one.kind).fit(OPENAI).schema

    for node in nodes(schema):
        assert not node.keys() & OPENAI_BANNED
        assert node.keys() & {"type", "anyOf", "$ref"}
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])
        if node.get("type") == "array":
            assert node["items"]
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        assert "(?" not in node.get("pattern", "")


@pytest.mark.parametrize(("one", "dialect"), FITTING)
def test_properties_keep_the_order_of_the_type(one: ZooCase, dialect: Dialect) -> None:
    kind = OutputType.of(one.kind)
    schema = kind.fit(dialect).schema

    for node in nodes(schema):
        if "properties" in node:
            names = list(node["properties"])
            assert node.get("required", []) == [name for name in names if name in node.get("required", [])]
            assert node.get("propertyOrdering", names) == names
    if kind.fields is not None and one.good:
        assert list(schema["properties"]) == [field.alias for field in kind.fields]


@pytest.mark.parametrize("one", ZOO, ids=lambda c: c.id)
def test_fitting_leaves_pydantics_schema_alone(one: ZooCase) -> None:
    kind = OutputType.of(one.kind)
    before = json.dumps(kind.json_schema)

    for dialect in DIALECTS:
        if dialect.name not in REFUSED.get(one.id, {}):
            assert kind.fit(dialect) is kind.fit(dialect)

    assert json.dumps(kind.json_schema) == before
