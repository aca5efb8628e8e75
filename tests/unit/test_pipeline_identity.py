"""What a call of a program is: whose model, under which salt, and what makes two calls one."""

from __future__ import annotations

import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.pipeline import Call, LLMIdentity
from pllm_notebook.pipeline.calls import ask_of, checked, salted
from pllm_notebook.pipeline.identities import model_of


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
        (LLMIdentity("judge", "google"), "openai", None, "google:gemini-3.5-flash-lite"),
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


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UsageError, match=r"llm is a model's name .* not int\. Nothing was sent\."):
        model_of(7, None, None)  # type: ignore[arg-type]


def test_the_counter_is_in_the_salt_only_where_it_is_asked_for() -> None:
    assert salted(None, None, "judge", 4) == ""
    assert salted("a", ["llm"], "judge", 4) == "a"
    assert salted("a", ["llm", "seq"], "judge", 4) == '["a","judge",4]'
    assert salted(None, "seq", "judge", 4) != salted(None, "seq", "judge", 5) != salted(None, "seq", "other", 5)


def test_options_of_a_call_are_those_of_its_own() -> None:
    assert checked({"temperature": 0.5, "max_output_tokens": None}) == {"temperature": 0.5}
    with pytest.raises(UnknownOptionError, match="no option 'mode'"):
        checked({"mode": "batch"})


def test_calls_that_differ_in_their_prompt_alone_are_one_question() -> None:
    def how(**fields: object) -> object:
        return Call("openai:gpt-6-luna", "Well?", **fields).how  # type: ignore[arg-type]

    assert how() == Call("openai:gpt-6-luna", "And?", agent="other", number=3, tag="later").how
    different = [how(), how(instructions="Be brief."), how(text_format=bool), how(salt="a"), how(replicate=1)]
    different += [how(params={"temperature": 0.1}), how(params={"extra_body": {"seed": 1}})]
    assert len(set(different)) == 7


def test_what_a_notebook_configured_for_its_frames_is_no_part_of_a_program() -> None:
    pllm.configure(mode="batch", pack=10, cache="refresh", errors="raise", samples=3, confirm=True)

    options = ask_of(Call("openai:gpt-6-luna", "Well?")).options

    assert (options.mode, options.pack, options.cache, options.errors) == ("async", 1, "use", "coerce")
