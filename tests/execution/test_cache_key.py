"""Golden keys: a table of calls and their keys that no later change moves unnoticed.

A key that moves makes every answer that people have paid for a miss. If one must move, `KEY_VERSION`
grows and the old entries are looked up under the old one.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from pllm_notebook.execution.cache_key import PLACEHOLDER, BodyTemplate, CacheKey, key_of
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.launch import build_spec, options_for
from pllm_notebook.messages_types import Dialogue, Media, RawRequest, ToolCall, ToolCallOutput, Turn
from pllm_notebook.options import OptionField, Options, fields_of
from pllm_notebook.schema import OutputType


class Review(BaseModel):
    """Facts stated in a product review."""

    product: str
    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5)


class ReviewOtherOrder(BaseModel):
    """Facts stated in a product review."""

    sentiment: Literal["positive", "negative", "neutral"]
    product: str
    score: int = Field(ge=1, le=5)


def spec(kind: Any = None, *, instruct: bool = False, **options: Any) -> CallSpec:
    output = None if kind is None else OutputType.of(kind)
    return build_spec(options_for({"model": "openai:gpt-6-luna"} | options), output, instruct=instruct)


def key(prompt: str, kind: Any = None, **options: Any) -> str:
    made = spec(kind, **options)
    text = made.encoded(prompt)
    assert isinstance(text, bytes)
    return made.key(text)


GOLDEN = [
    ("openai text", None, {}, "UWYceFVad22LpPjITw5FLzxb0wN2kaUeh2aLvvmLgyE"),
    ("openai review", Review, {}, "PN_caQXOJQb7hOz98rM-Y0_HeTEcosetfPq6Hwu0NQM"),
    (
        "openai review, its docstring the prompt",
        Review,
        {"instruct": True},
        "J3iOxMH0VkatNulJFppPeeuHdKqMmVOLaVuXVl-1pxo",
    ),
    ("openai review, temperature 0", Review, {"temperature": 0}, "tdOdVKvLeCMWFfvW8xaY3OxcPEMYzCHm1mF_Qq7I_IM"),
    ("openai review, temperature 0.5", Review, {"temperature": 0.5}, "AjkizWsOUs36rxs4cfrdElaos9h6YE_95_YAhnE1Pwg"),
    ("openai review, salted", Review, {"salt": "again"}, "c9D9jmK8Y1dkYcRpjBr3qTPNujkQa9fGHKBi3_0G0AQ"),
    ("openai review, system", Review, {"system": "Be brief."}, "G6-GYqtcyXY9pz8JFu5hOdutVrO7EAzj-1cQ9lb9RXM"),
    (
        "openai review, effort",
        Review,
        {"extra_body": {"reasoning_effort": "low"}},
        "GqxfYJz6C-lOqNvgxDVUau3O8qE-cSUHeOXqZk-5Dug",
    ),
    ("openai responses", Review, {"model": "openai:gpt-5-pro"}, "2BwEnx2teYSJxMmA1_sertVXTPRcYa9YnrzAxk68zoo"),
    ("anthropic text", None, {"model": "anthropic:claude-haiku-5-5"}, "Cl2QRXUMKnIgo54z4J8_VJdrnPCDIJ9Q-IQvdJZ-bLA"),
    (
        "anthropic review",
        Review,
        {"model": "anthropic:claude-haiku-5-5"},
        "hC99Huy1IkkuNQ0cqLoOC4Lv9R0SlKC52EyMDi_lPpE",
    ),
    ("google text", None, {"model": "google:gemini-3.8-flash"}, "5QXpEe3_b-AUpCTiaK5rgG_4c3ScOcRXxae364CRtpU"),
    ("google review", Review, {"model": "google:gemini-3.8-flash"}, "Y2FpvegmsyEzgr2-XO57wv3q57U9Obj0jLGml0vR5K8"),
    ("sim review", Review, {"model": "sim:openai"}, "eg2U-7hyBRuZEuFpr0Y32QTWWOwrny_ouyMMUms0fTc"),
    ("openai bool", bool, {}, "8WZ7IgGdcu9O2GM0I6BaVAkdSqU_1JGqJ008JZHLMjs"),
    ("openai list", list[Review], {}, "c2UtR_R-7KeDVMG6c1MFzxH43uue8-36EFGER-nAKWY"),
    ("openai review, one of 10", Review, {"pack": 10}, "v31WDGcOJxeyh-lSBIrZXWtP2SNMuls9uCMPVaryZSU"),
    ("openai review, one of 5", Review, {"pack": 5}, "DOl43ER7V2bK1jHmKhcYxz5acjsOKD5SpGuAB7UGPSI"),
    ("openai text, one of 10", None, {"pack": 10}, "P6Y8ZNIAf9NjUeF6nAaI0qU80ELLQ8SgLyqxi5jeLRg"),
    (
        "anthropic review, one of 10",
        Review,
        {"model": "anthropic:claude-haiku-5-5", "pack": 10},
        "FjjNKgate2bslyPD7gTJkNV8wiFYsMc1t4cKECi8PQw",
    ),
    (
        "google review, one of 10",
        Review,
        {"model": "google:gemini-3.8-flash", "pack": 10},
        "9Msql-EoV9vDn3WTrlQSzNaF3fxgFl7Vg96NvTcnTnw",
    ),
]


@pytest.mark.parametrize(("name", "kind", "options", "golden"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_golden_keys_do_not_move(name: str, kind: Any, options: dict[str, Any], golden: str) -> None:
    assert key('A "quoted" line,\nnaïve 😀', kind, **options) == golden


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return city


CONVERSATION = Dialogue(
    (
        Turn("user", "How warm is it there?", media=(Media("image/png", data="aW1n"),)),
        Turn("assistant", "Let me look.", calls=(ToolCall("id_1", "weather", '{"city":"Bern"}'),)),
        Turn("tool", "", results=(ToolCallOutput("id_1", "weather", "12"),)),
        Turn("user", "In Fahrenheit?"),
    ),
    system="Be brief.",
)
GOLDEN_CONVERSATIONS = {
    "openai:gpt-6-luna": "M1KaE7lE32h0eLNmvUO2zOZNBKlpPXTzgD02r-JvKI4",
    "openai:gpt-5-pro": "PCZuLKCQQ5woSUlxuvmcMb6ZAwRsl4KVEXU4FxY804Y",
    "anthropic:claude-haiku-5-5": "GeZs4-rG2w5xHNTi6IqXRTbdRWtRsQA1w3wljyWlSp4",
    "google:gemini-3.8-flash": "nRwnQAyOGRb7XOn38eXQ2jhslVBW_IzyNqiWJ5TCJU8",
}


@pytest.mark.parametrize(("model", "golden"), GOLDEN_CONVERSATIONS.items())
def test_golden_keys_of_conversations_with_pictures_and_tools_do_not_move(model: str, golden: str) -> None:
    made = spec(model=model, tools=[weather])

    encoded = made.encoded(CONVERSATION)

    assert isinstance(encoded, RawRequest)
    assert made.key(encoded) == golden


def test_calls_that_differ_have_different_keys() -> None:
    assert len({row[3] for row in GOLDEN}) == len(GOLDEN)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 3},
        {"timeout_s": 5},
        {"max_retries": 0},
        {"max_repairs": 3},
        {"max_output_tokens": 500},
        {"max_cost_usd": 1},
        {"requests_per_min": 10},
        {"cache": "refresh"},
        {"errors": "raise"},
        {"mode": "sync"},
        {"prefix": "x_"},
        {"extra_body": {"user": "me", "service_tier": "flex", "metadata": {"a": "b"}}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_cannot_change_the_answer_is_not_in_the_key(options: dict[str, Any]) -> None:
    for model in ("openai:gpt-6-luna", "anthropic:claude-haiku-5-5", "google:gemini-3.8-flash"):
        assert key("a", Review, model=model, **options) == key("a", Review, model=model)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "openai:gpt-6-sol"},
        {"model": "anthropic:claude-haiku-5-5"},
        {"temperature": 1},
        {"salt": "x"},
        {"system": "x"},
        {"extra_body": {"a field nobody has heard of": 1}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_can_change_the_answer_is_in_the_key(options: dict[str, Any]) -> None:
    assert key("a", Review, **options) != key("a", Review)


def test_the_order_of_a_schemas_fields_counts() -> None:
    renamed = type("Review", (ReviewOtherOrder,), {"__doc__": Review.__doc__})

    assert key("a", Review) != key("a", renamed)


def test_numbers_of_different_kinds_differ() -> None:
    values: list[Any] = [1, 1.0, True]

    assert len({key("a", extra_body={"x": value}) for value in values}) == 3


def test_the_fast_way_and_the_whole_body_give_one_key() -> None:
    for model in ("openai:gpt-6-luna", "anthropic:claude-haiku-5-5", "google:gemini-3.8-flash"):
        made = spec(Review, model=model, salt="s")
        text = made.encoded("some row")
        assert isinstance(text, bytes)

        assert made.key(text) == made.key_of(made.encoder.dialogue("some row"))


def test_0_and_0_0_are_one_temperature() -> None:
    assert key("a", temperature=0) == key("a", temperature=0.0)


def test_samples_have_keys_of_their_own_and_sample_0_is_the_plain_call() -> None:
    body = {"messages": [{"role": "user", "content": "a"}]}
    plain = key_of("openai", "/chat/completions", body, "")

    assert plain == key_of("openai", "/chat/completions", body, "", sample=0)
    assert plain != key_of("openai", "/chat/completions", body, "", sample=1)


def test_a_pack_of_one_is_the_plain_call() -> None:
    assert key("a", Review, pack=1) == key("a", Review)


def test_a_rows_plain_key_does_not_depend_on_packs() -> None:
    text = b'"a"'

    assert spec(Review, pack=10).plain_key(text) == spec(Review).key(text) != spec(Review, pack=10).key(text)


def test_a_pack_has_the_key_of_its_whole_body_and_never_that_of_a_row() -> None:
    for model in ("openai:gpt-6-luna", "anthropic:claude-haiku-5-5", "google:gemini-3.8-flash"):
        made = spec(Review, model=model, salt="s", pack=10)
        packed = made.packed
        assert packed is not None

        target, body = made.target, packed.encoder.body(packed.encoder.dialogue("some rows"))
        assert packed.key(b'"some rows"') == key_of(target.provider, target.path, body, "s", pack=10)
        assert packed.key(b'"some rows"') != key_of(target.provider, target.path, body, "s")


def test_a_row_that_holds_the_holes_own_text_is_only_data() -> None:
    maker = CacheKey("p", "/", {"m": [PLACEHOLDER]}, "")

    assert maker.key(b'"a"') != maker.key(b'"b"')


def test_a_body_with_two_holes_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="exactly once"):
        BodyTemplate({"a": PLACEHOLDER, "b": PLACEHOLDER})


def forecast(city: str) -> str:
    """Return a city's weather."""
    return city


# What no other value of the same type says; images and examples are part of the prompt.
OTHER_VALUES: dict[str, Any] = {
    "model": "openai:gpt-6-sol",
    "columns": ["text"],
    "models": ["openai:gpt-6-sol"],
    "calibration": "a-name",
    "guarantee": 0.9,
    "confidence_level": 0.9,
    "top_p": 0.9,
    "decide": "vote",
    "extra_body": {"seed": 1},
    "images_from": "anywhere",
    "tools": [],
    "tool_choice": "required",
    "validation_context": "text",
    "pack": 10,
    "prices": {"openai:x": 1},
    "shard": (0, 2),
    "wait": True,
    "parallel_tool_calls": False,
    "run_tools": True,
    "stop": "END",
}


@pytest.mark.parametrize(
    "option",
    [each for each in fields_of(Options).values() if each.name not in ("images", "examples")],
    ids=lambda each: each.name,
)
def test_an_option_is_in_the_key_exactly_where_its_field_says_so(option: OptionField) -> None:
    other = OTHER_VALUES.get(option.name)
    if other is None and option.choices:
        other = next(choice for choice in option.choices if choice != option.default)
    if other is None:
        other = {bool: True, str: "other"}.get(option.kinds[0], 3)
    if option.default is True:
        other = False

    offered: dict[str, Any] = {} if option.name == "pack" else {"tools": [forecast]}  # packs are offered no tools
    if option.name in ("top_p", "probabilities"):
        offered["effort"] = "none"  # this model takes or gives none while it reasons
    same, changed = key("a", Review, **offered), key("a", Review, **offered | {option.name: other})

    assert (same != changed) == option.keyed
