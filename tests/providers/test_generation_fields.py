"""Effort, service tier and sampling: each provider's own fields, or an error before anything is sent."""

from __future__ import annotations

import pytest

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution.asked_model import resolve_model
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.messages_types import Dialogue, Turn
from pllm_notebook.prices import rate_of
from pllm_notebook.settings import resolve


def spec(model: str, **options: object) -> CallSpec:
    chosen = resolve({"model": model, **options})
    return CallSpec(resolve_model(chosen), chosen, None, None)


def body(model: str, **options: object) -> dict[str, object]:
    return spec(model, **options).encoder.body(Dialogue((Turn("user", "Hello"),)))


def level(word: str) -> dict[str, object]:
    return {"generationConfig": {"thinkingConfig": {"thinkingLevel": word}}}


def budget(tokens: int) -> dict[str, object]:
    return {"generationConfig": {"thinkingConfig": {"thinkingBudget": tokens}}}


@pytest.mark.parametrize(
    ("model", "effort", "fields"),
    [
        ("openai:gpt-6-luna", "none", {"reasoning_effort": "none"}),
        ("openai:gpt-6-luna", "max", {"reasoning_effort": "xhigh"}),
        ("openai:gpt-5-mini", "minimal", {"reasoning_effort": "minimal"}),
        ("openai:gpt-5.5-pro", "high", {"reasoning": {"effort": "high"}}),
        ("openai:gpt-4.1", "none", {}),
        ("anthropic:claude-haiku-5-5", "low", {"output_config": {"effort": "low"}}),
        ("anthropic:claude-haiku-5-5", "none", {"thinking": {"type": "disabled"}}),
        ("anthropic:claude-sonnet-5-5", "none", {"thinking": {"type": "between_tools"}}),
        ("anthropic:claude-haiku-4-5", "none", {}),
        ("google:gemini-3.5-flash-lite", "minimal", level("MINIMAL")),
        ("google:gemini-3.8-flash", "max", level("HIGH")),
        ("google:gemini-2.5-flash", "none", budget(0)),
        ("google:gemini-2.5-pro", "max", budget(32_768)),
        ("local:smollm2", "none", {"chat_template_kwargs": {"enable_thinking": False}}),
    ],
)
def test_an_effort_is_sent_in_the_providers_own_words(model: str, effort: str, fields: dict[str, object]) -> None:
    plain = body(model)

    given = body(model, effort=effort)

    assert {name: value for name, value in given.items() if plain.get(name) != value} == fields


@pytest.mark.parametrize(
    ("model", "effort", "takes"),
    [
        ("openai:gpt-6-luna", "minimal", "one of 'none', 'low', 'medium', 'high' or 'max'"),
        ("openai:gpt-6-astra", "none", "one of 'low', 'medium', 'high' or 'max'"),
        ("openai:gpt-4.1", "low", "only 'none'"),
        ("anthropic:claude-opus-5-5", "none", "one of 'low', 'medium', 'high' or 'max'"),
        ("anthropic:claude-haiku-4-5", "high", "only 'none'"),
        ("google:gemini-3.8-flash", "minimal", "one of 'low', 'medium', 'high' or 'max'"),
        ("local:smollm2", "high", "only 'none'"),
    ],
)
def test_an_effort_that_a_model_does_not_take_names_those_it_takes(model: str, effort: str, takes: str) -> None:
    with pytest.raises(UsageError) as raised:
        spec(model, effort=effort)

    assert str(raised.value) == f"effort= is {takes} at {model}, not {effort!r}. Nothing was sent."


@pytest.mark.parametrize(
    ("model", "tier", "fields"),
    [
        ("openai:gpt-6-luna", "standard", {"service_tier": "default"}),
        ("anthropic:claude-haiku-5-5", "standard", {"service_tier": "standard_only"}),
        ("google:gemini-3.5-flash-lite", "flex", {"serviceTier": "flex"}),
    ],
)
def test_a_service_tier_is_sent_and_is_not_in_the_key(model: str, tier: str, fields: dict[str, object]) -> None:
    given = body(model, service_tier=tier)

    assert {name: given[name] for name in fields} == fields
    assert spec(model, service_tier=tier).key(b'"Hello"') == spec(model).key(b'"Hello"')


@pytest.mark.parametrize("model", ["openai:gpt-6-luna", "anthropic:claude-haiku-5-5", "google:gemini-3.5-flash-lite"])
def test_an_effort_is_in_the_key(model: str) -> None:
    keys = {spec(model, effort=effort).key(b'"Hello"') for effort in (None, "low", "high")}

    assert len(keys) == 3


def test_sampling_options_have_each_providers_names() -> None:
    given = {"top_p": 0.5, "stop": "END"}

    google = body("google:gemini-3.5-flash-lite", seed=7, **given)["generationConfig"]
    claude = body("anthropic:claude-haiku-4-5", **given)
    openai = body("openai:gpt-4.1", seed=7, **given)
    assert google == {"topP": 0.5, "seed": 7, "stopSequences": ["END"]}
    assert (claude["top_p"], claude["stop_sequences"]) == (0.5, ["END"])
    assert (openai["top_p"], openai["seed"], openai["stop"]) == (0.5, 7, ["END"])


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("openai:gpt-6-luna", {"top_p": 0.5}, "does not take top_p="),
        ("anthropic:claude-haiku-5-5", {"top_p": 0.5}, "does not take top_p="),
        ("anthropic:claude-haiku-5-5", {"seed": 1}, "seed= has no equal"),
        ("anthropic:claude-haiku-5-5", {"service_tier": "flex"}, "service_tier= is one of 'auto', 'standard'"),
        ("local:smollm2", {"service_tier": "flex"}, "service_tier= is not supported"),
        ("openai:gpt-6-luna", {"service_tier": "flex", "mode": "batch"}, "is for live calls"),
    ],
)
def test_what_a_model_does_not_take_is_refused(model: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        spec(model, **options)


def test_top_p_is_taken_where_reasoning_is_off() -> None:
    assert body("openai:gpt-6-luna", top_p=0.5, effort="none")["top_p"] == 0.5


def test_extra_body_takes_precedence() -> None:
    given = body("openai:gpt-6-luna", effort="low", extra_body={"reasoning_effort": "high"})

    assert given["reasoning_effort"] == "high"


def test_a_service_tier_has_its_own_price() -> None:
    standard, flex = rate_of("openai", "gpt-6-luna"), rate_of("openai", "gpt-6-luna", tier="flex")

    assert standard is not None
    assert flex is not None
    assert flex.output_usd == standard.output_usd / 2
    assert rate_of("anthropic", "claude-haiku-5-5", tier="priority") is None
