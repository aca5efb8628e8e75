"""A misspelt name or a wrong value is one error of ours, with a guess, wherever arguments are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError

MESSAGES = [{"role": "user", "content": "Hi"}]
MISSPELT: dict[str, tuple[Callable[[], object], str]] = {
    "LLMConfig": (lambda: pllm.LLMConfig(modle="x"), "model"),
    "LLMConfig attribute": (lambda: setattr(pllm.LLMConfig(), "modle", "x"), "model"),
    "update_llm_config": (
        lambda: pllm.LLMPromptContext(new_message="a").update_llm_config(temprature=0),
        "temperature",
    ),
    "LLMPromptContext": (lambda: pllm.LLMPromptContext(new_mesage="a"), "new_message"),
    "nested LLMConfig": (
        lambda: pllm.LLMPromptContext(new_message="a", llm_config={"modle": "x"}),
        "model",
    ),
    "RequestLimits": (lambda: pllm.RequestLimits(max_requests_minute=3), "max_requests_per_minute"),
    "OAIApiFromFileConfig": (lambda: pllm.OAIApiFromFileConfig(requests_filpath="a"), "requests_filepath"),
    "StructuredTool": (lambda: pllm.StructuredTool(nme="a", json_schema={}), "name"),
    "FrameworkConfig": (lambda: pllm.FrameworkConfig(num_procesors=3), "num_processors"),
    "create_framework": (lambda: pllm.create_framework(num_procesors=3), "num_processors"),
    "ParallelLLM.parse_sync": (
        lambda: pllm.ParallelLLM().parse_sync(messages=MESSAGES, temprature=1),
        "temperature",
    ),
    "an argument for messages": (lambda: pllm.ParallelLLM().parse_sync(mesages=MESSAGES), "messages"),
}


@pytest.mark.parametrize(("use", "meant"), MISSPELT.values(), ids=MISSPELT)
def test_a_misspelt_name_is_guessed(use: Callable[[], Any], meant: str, cache_dir: object) -> None:
    with pytest.raises(UsageError, match=rf"Did you mean '{meant}'\?.* Nothing was sent\.$") as raised:
        use()

    assert "pydantic" not in str(raised.value)
    assert str(raised.value).count("Nothing was sent.") == 1


def test_a_misspelt_provider_is_guessed_in_the_prompts_own_error(cache_dir: object) -> None:
    prompt = pllm.LLMPromptContext(new_message="a", llm_config=pllm.LLMConfig(client="opnai"))

    (output,) = pllm.ParallelAIUtilities().run_parallel_ai_completion_sync([prompt])

    assert output.error == (
        "input: LLMConfig(client='opnai') names no provider. Did you mean 'openai'? Nothing was sent."
    )


def test_a_wrong_value_is_named_with_what_is_expected() -> None:
    with pytest.raises(UsageError) as raised:
        pllm.LLMConfig(temperature=-1)

    assert str(raised.value) == (
        "LLMConfig: temperature=-1: input should be greater than or equal to 0. Nothing was sent."
    )


def test_a_wrong_key_is_not_repeated() -> None:
    with pytest.raises(UsageError) as raised:
        pllm.OAIApiFromFileConfig(requests_filepath="a", api_key=1234567)

    assert "1234567" not in str(raised.value)


def test_a_frameworks_configuration_shows_its_settings_in_its_signature() -> None:
    import inspect

    assert list(inspect.signature(pllm.FrameworkConfig).parameters)[:2] == ["num_processors", "timeout"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"servers": {"mine": 5}}, r"The address of server 'mine' is text.*, not int\."),
        ({"servers": {5: "http://localhost:1"}}, r"5 cannot be one"),
        ({"servers": {"a:b": "http://localhost:1"}}, r"'a:b' cannot be one"),
        ({"servers": {"": "http://localhost:1"}}, r"'' cannot be one"),
        ({"servers": {"openai": "http://localhost:1"}}, r"A server cannot be named 'openai'.*'my_openai'"),
        ({"servers": {"sim": "http://localhost:1"}}, r"A server cannot be named 'sim'"),
        ({"clients": {"mine": 5}}, r"The client 'mine' is a builtins\.int; expected an async client"),
        ({"clients": {None: 5}}, r"None cannot be one"),
    ],
    ids=str,
)
def test_a_server_or_client_that_cannot_be_one_is_refused_when_it_is_configured(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        pllm.configure(**given)

    assert pllm.configure(model=None) is None
