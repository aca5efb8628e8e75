"""What a call of a program is: whose model, under which salt, and what makes two calls one."""

from __future__ import annotations

import pickle

import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.sessions import Call, LLMIdentity
from pllm_notebook.sessions.call import check_params, salt_for, spec_of, tools_of
from pllm_notebook.sessions.llm_identity import model_of


@pytest.mark.parametrize(
    ("llm", "provider", "model", "expected"),
    [
        (None, None, None, None),
        (None, "openai", None, "openai:gpt-6-luna"),
        (None, "openai", "gpt-6-sol", "openai:gpt-6-sol"),
        (None, None, "claude-haiku-5-5", "anthropic:claude-haiku-5-5"),
        ("claude-haiku-5-5", "openai", None, "anthropic:claude-haiku-5-5"),
        ("google:gemini-3.8-flash", "openai", None, "google:gemini-3.8-flash"),
        ("my-own", "openai", None, "openai:my-own"),
        (LLMIdentity("judge", "anthropic", "claude-haiku-5-5"), "openai", None, "anthropic:claude-haiku-5-5"),
        (LLMIdentity("judge", model_name="gemini-3.8-flash"), "openai", None, "google:gemini-3.8-flash"),
        (LLMIdentity("gemini-3.8-flash", "google"), "openai", None, "google:gemini-3.8-flash"),
        (LLMIdentity("gpt-4o", provider="openai"), "google", None, "openai:gpt-4o"),
        (LLMIdentity("gpt-4o", provider_type="openai"), None, None, "openai:gpt-4o"),
        (LLMIdentity("openai/claude-odd"), None, None, "openai:claude-odd"),
        (LLMIdentity("my-own"), "openai", None, "openai:my-own"),
        ("openai/gpt-4o-mini", None, None, "openai:gpt-4o-mini"),
        ("openai/gpt-4o-mini", "google", None, "openai:gpt-4o-mini"),
        ("meta/llama", "openai", None, "openai:meta/llama"),
        (None, None, "openai/gpt-4o-mini", "openai:gpt-4o-mini"),
        (None, "openai", LLMIdentity("claude-haiku-5-5"), "anthropic:claude-haiku-5-5"),
        (LLMIdentity("gpt-6-luna"), None, None, "openai:gpt-6-luna"),
    ],
)
def test_a_calls_model_is_its_own_before_the_sessions(
    llm: str | LLMIdentity | None, provider: str | None, model: str | None, expected: str | None
) -> None:
    assert model_of(llm, provider, model) == expected


def test_a_name_that_looks_like_another_providers_is_the_servers_own() -> None:
    pllm.configure(servers={"vllm": "http://localhost:1/v1"})

    assert model_of("gpt-oss-20b", "vllm", None) == "vllm:gpt-oss-20b"
    # A server such as OpenRouter has slashes in the names of its models.
    assert model_of("openai/gpt-oss-20b", "vllm", None) == "vllm:openai/gpt-oss-20b"
    assert model_of("vllm/gpt-oss-20b", None, None) == "vllm:gpt-oss-20b"


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UsageError, match=r"llm is a model's name .* not 7\. Nothing was sent\."):
        model_of(7, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("llm", "model"), [("", None), (None, ""), ("", "openai:gpt-6-luna")])
def test_an_empty_name_is_an_error_and_no_default(llm: str | None, model: str | None) -> None:
    with pytest.raises(UsageError, match=r"llm is a model's name .* not ''\. Nothing was sent\."):
        model_of(llm, "openai", model)
    with pytest.raises(UsageError, match="An LLMIdentity names a model"):
        LLMIdentity("")


def test_an_identity_says_what_it_is() -> None:
    named = LLMIdentity("the thrifty one", "google", "gemini-3.5-flash-lite")
    plain = LLMIdentity("gpt-4o")

    assert (plain.identity, plain.provider, plain.model_name) == ("gpt-4o", "openai", "gpt-4o")
    assert (str(named), named.name) == ("the thrifty one", "google:gemini-3.5-flash-lite")
    assert repr(named) == "<LLMIdentity google:gemini-3.5-flash-lite 'the thrifty one'>"
    assert {plain, LLMIdentity("gpt-4o"), LLMIdentity("gpt-4o", "openai")} == {plain}
    assert plain != LLMIdentity("gpt-4o-mini")
    assert pickle.loads(pickle.dumps(named)) == named


def test_the_counter_is_in_the_salt_only_where_it_is_asked_for() -> None:
    assert salt_for(None, None, "judge", 4) == ""
    assert salt_for("a", ["llm"], "judge", 4) == "a"
    assert salt_for(1, ["llm", "tools", "tool_names", "structured_output", "kwargs", "all"], "judge", 4) == "1"
    assert salt_for("a", ["llm", "seq"], "judge", 4) == '["a","judge",4]'
    assert salt_for(None, "seq", "judge", 4) != salt_for(None, "seq", "judge", 5) != salt_for(None, "seq", "other", 5)


def test_options_of_a_call_are_those_of_its_own() -> None:
    luna = "openai:gpt-6-luna"

    assert check_params({"temperature": 0.5, "max_output_tokens": None}, luna) == {"temperature": 0.5}
    with pytest.raises(UnknownOptionError, match="no option 'mode'"):
        check_params({"mode": "batch"}, luna)


@pytest.mark.parametrize(
    ("params", "model", "expected"),
    [
        ({"max_tokens": 9}, "openai:gpt-6-luna", {"max_output_tokens": 9}),
        ({"top_p": 0.5}, "openai:gpt-6-luna", {"extra_body": {"top_p": 0.5}}),
        ({"top_p": 0.5}, "google:gemini-3.8-flash", {"extra_body": {"generationConfig": {"topP": 0.5}}}),
        ({"reasoning": {"effort": "low"}}, "openai:gpt-6-luna", {"extra_body": {"reasoning_effort": "low"}}),
        ({"reasoning": {"effort": "low"}}, "openai:gpt-5-pro", {"extra_body": {"reasoning": {"effort": "low"}}}),
        (
            {"reasoning_effort": "high", "extra_body": {"metadata": {"a": "b"}}},
            "anthropic:claude-haiku-5-5",
            {"extra_body": {"output_config": {"effort": "high"}, "metadata": {"a": "b"}}},
        ),
    ],
)
def test_keywords_of_openais_client_are_put_into_each_providers_words(
    params: dict[str, object], model: str, expected: dict[str, object]
) -> None:
    assert check_params(params, model) == expected


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_tokens": 9, "max_output_tokens": 8}, "both max_output_tokens"),
        ({"seed": 7}, "seed= has no equal at anthropic:claude-haiku-5-5"),
        ({"n": 3}, "n= is not supported here"),
        ({"model": "gpt-6-luna"}, "takes llm= instead of model="),
        ({"system": "Be brief."}, "takes instructions= instead of system="),
        ({"modle": "gpt-6-luna"}, "Did you mean 'model'"),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, "There is no option 'reasoning'"),
    ],
)
def test_a_keyword_that_cannot_be_carried_out_is_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_params(params, "anthropic:claude-haiku-5-5")


def test_calls_that_differ_in_their_prompt_alone_are_one_question() -> None:
    def how(**fields: object) -> object:
        return Call("openai:gpt-6-luna", "Well?", **fields).how  # type: ignore[arg-type]

    assert how() == Call("openai:gpt-6-luna", "And?", agent="other", number=3, tag="later").how
    different = [how(), how(instructions="Be brief."), how(text_format=bool), how(salt="a"), how(replicate=1)]
    different += [how(params={"temperature": 0.1}), how(params={"extra_body": {"seed": 1}})]
    assert len(set(different)) == 7


def weather(city: str) -> str:
    """Tell the weather."""
    return city


def test_a_function_is_one_tool_however_often_it_is_offered_and_another_one_is_another() -> None:
    def how(source: object) -> object:
        return Call("openai:gpt-6-luna", "Well?", tools=tools_of([source]), sources=(source,)).how

    def make() -> object:
        def weather(city: str) -> str:
            """Tell the weather."""
            return city.upper()

        return weather

    assert tools_of([weather])[0] is tools_of([weather])[0]
    assert how(weather) == how(weather)
    assert how(weather) != how(make()) != how(make())
    schema = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    assert how(schema) == how(dict(schema))


def test_a_call_pickles_with_its_tools_or_with_their_fields_alone() -> None:
    def local(city: str) -> str:
        """Tell the weather."""
        return city

    call = Call("openai:gpt-6-luna", "Well?", tools=tools_of([weather, local]), sources=(weather, local))

    revived = pickle.loads(pickle.dumps(call))

    assert [tool.runnable for tool in revived.tools] == [True, False]
    assert [tool.model_dump() for tool in revived.tools] == [tool.model_dump() for tool in call.tools]
    assert pickle.loads(pickle.dumps(revived)).tools == revived.tools


def test_what_a_notebook_configured_for_its_frames_is_no_part_of_a_program() -> None:
    pllm.configure(mode="batch", pack=10, cache="refresh", errors="raise", samples=3, confirm=True)

    options = spec_of(Call("openai:gpt-6-luna", "Well?")).options

    assert (options.mode, options.pack, options.cache, options.errors) == ("async", 1, "use", "coerce")
