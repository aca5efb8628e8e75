"""Code that was written for another package's parallel requests runs here with nothing changed but the import."""

from __future__ import annotations

import asyncio
import builtins
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.exceptions import StoreError, UnknownOptionError, UsageError
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.tools import Called
from tests.contract.echo import Echo
from tests.contract.sides import GOOGLE, HOSTED, OPENAI, Side, reach
from tests.forked import run_forked

MESSAGES = [
    {"role": "system", "content": "You recommend products."},
    {"role": "user", "content": "Recommend a laptop under $1500."},
]
PNG = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Recommendation(BaseModel):
    """A recommendation."""

    name: str = Field(description="Name of the product")
    price: float = Field(description="Its price")
    pros: list[str] = Field(description="What speaks for it")


BOOK = {"name": "Book", "price": 999.0, "pros": ["light"]}


def judging(request: SimRequest) -> bool:
    return '"candidates"' in request.prompt


def verdict(answer: Any) -> SimAnswer:
    marks = dict.fromkeys(("accuracy", "completeness", "relevance", "quality", "consistency"), 7)
    return SimAnswer.value({"scores": [{"candidate": 1} | marks], "answer": answer})


@pytest.fixture
def mini(sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """OpenAI, and a model by the name that scripts of other years have."""
    reach(OPENAI, sim, monkeypatch)
    sim.set(answers=lambda request: verdict(BOOK) if judging(request) else SimAnswer.value(BOOK))
    return "gpt-4o-mini"


def test_both_ways_of_calling(mini: str) -> None:
    async def main() -> tuple[Any, Any]:
        framework = pllm.ParallelLLM(api_key="any-key")
        completion = await framework.beta.chat.completions.parse(
            model=mini, messages=MESSAGES, response_format=Recommendation, temperature=0.2
        )
        direct = await framework.parse(mini, MESSAGES, Recommendation, pass_reasoning=False, temperature=0.2)
        return completion, direct

    completion, direct = asyncio.run(main())

    assert isinstance(completion, pllm.ParallelCompletion)
    assert isinstance(completion, openai.types.chat.ParsedChatCompletion)
    assert isinstance(completion.choices[0], pllm.Choice)
    assert isinstance(completion.choices[0].message, pllm.ParsedMessage)
    assert completion.choices[0].message.parsed == direct == Recommendation(**BOOK)
    assert pllm.ParallelCompletion(direct).choices[0].message.parsed is direct


def test_reasoning_and_a_position_for_every_argument(mini: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.value({"reasoning": "By weight.", **BOOK}))

    assert pllm.ParallelLLM().parse_sync(mini, MESSAGES, Recommendation, True) == Recommendation(**BOOK)


def test_settings(mini: str) -> None:
    framework = pllm.ParallelLLM(api_key="any-key", config=pllm.FrameworkConfig(5, 45.0, max_retries=3))
    before = framework.get_config_summary()
    framework.update_config(num_processors=4, timeout=20.0, decision_maker_temperature=0.2)
    manager = pllm.ConfigurationManager(pllm.create_performance_config())
    manager.update_config(num_processors=2)

    assert (before["num_processors"], before["timeout"], before["logging_enabled"]) == (5, 45.0, True)
    assert (framework.config.num_processors, framework.config_manager.get_config().timeout) == (4, 20.0)
    assert manager.get_config_summary()["num_processors"] == 2
    with pytest.raises(pllm.ConfigurationError, match=r"^\[CONFIG_ERROR\] num_processors is a whole number"):
        manager.update_config(num_processors=0)


def test_every_public_name_of_the_other_package_is_there() -> None:
    names = [
        "ParallelLLM",
        "FrameworkConfig",
        "ConfigurationManager",
        "create_default_config",
        "create_performance_config",
        "create_robust_config",
        "create_development_config",
        "ParallelLLMError",
        "ConfigurationError",
        "ProcessingError",
        "DecisionMakerError",
        "ValidationError",
        "APIError",
        "TimeoutError",
        "RateLimitError",
        "AuthenticationError",
        "ModelError",
        "handle_openai_error",
        "get_error_info",
        "is_retryable_error",
        "DECISION_MAKER_PROMPT",
        "ParsedMessage",
        "Choice",
        "ParallelCompletion",
        "ParallelCompletionInterface",
        "ParallelChat",
        "ParallelBeta",
        "create_framework",
    ]
    framework = pllm.ParallelLLM()

    assert [name for name in names if not hasattr(pllm, name)] == []
    assert isinstance(framework.beta, pllm.ParallelBeta)
    assert isinstance(framework.beta.chat, pllm.ParallelChat)
    assert isinstance(framework.beta.chat.completions, pllm.ParallelCompletionInterface)
    assert issubclass(pllm.TimeoutError, builtins.TimeoutError)
    assert "TimeoutError" not in pllm.__all__
    assert "ValidationError" not in pllm.__all__


# Errors.


def test_all_processors_failing_is_counted_with_the_causes_beside(mini: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(429, headers={"retry-after": "7"}))

    with pytest.raises(pllm.ProcessingError) as caught:
        pllm.create_framework(max_retries=0).parse_sync(mini, MESSAGES, Recommendation)

    error = caught.value
    assert error.failed_processors == 3
    assert [type(failed.cause) for failed in error.causes] == [pllm.RateLimitError] * 3
    assert str(error.causes[0].cause).startswith("[RATE_LIMIT_ERROR] ")
    info = pllm.get_error_info(error)
    assert (info["error_type"], info["error_code"], info["kind"]) == ("ProcessingError", error.error_code, "rate_limit")
    assert (info["failed_processors"], info["full_message"]) == (3, f"[PROCESSING_ERROR] {error.message}")
    assert pllm.is_retryable_error(error)


ODD: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "no model": ({"model": ""}, UsageError),
    "no messages": ({"messages": None}, UsageError),
    "empty messages": ({"messages": []}, UsageError),
    "a keyword": ({"temprature": 1}, UnknownOptionError),
    "a format": ({"response_format": {"type": "json_object"}}, UsageError),
    "a provider": ({"model": "nobody:x"}, UsageError),
    "a tool": ({"tools": [{"type": "web_search"}]}, UsageError),
    "a limit": ({"max_tokens": 0}, UsageError),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "completion"])
def test_every_error_is_a_parallel_llm_error(odd: str, direct: bool, mini: str, sim: Simulator) -> None:
    given, kind = ODD[odd]
    framework = pllm.ParallelLLM()
    call = framework.parse if direct else framework.chat.completions.parse

    with pytest.raises(pllm.ParallelLLMError, match=r"^\[VALIDATION_ERROR\] .*Nothing was sent\.$") as caught:
        asyncio.run(call(**({"model": mini, "messages": MESSAGES, "response_format": Recommendation} | given)))

    assert isinstance(caught.value, kind)
    assert isinstance(caught.value, pllm.LLMValidationError)
    assert not pllm.is_retryable_error(caught.value)
    assert sim.stats().requests == 0


def test_a_cache_that_cannot_be_opened_is_one_too(mini: str, tmp_path: Path) -> None:
    pllm.configure(cache_dir=tmp_path / "file" / "cache")
    (tmp_path / "file").write_text("-")

    with pytest.raises(pllm.ParallelLLMError, match=r"^\[PROCESSING_ERROR\] ") as caught:
        pllm.ParallelLLM().parse_sync(mini, MESSAGES, Recommendation)

    assert isinstance(caught.value, StoreError)


@pytest.mark.parametrize(
    ("status", "foreign", "ours"),
    [
        (401, openai.AuthenticationError, pllm.AuthenticationError),
        (403, openai.PermissionDeniedError, pllm.AuthenticationError),
        (404, openai.NotFoundError, pllm.ModelError),
        (429, openai.RateLimitError, pllm.RateLimitError),
        (500, openai.InternalServerError, pllm.APIError),
    ],
)
def test_an_error_of_openais_client_has_an_equal(status: int, foreign: Any, ours: type[pllm.APIError]) -> None:
    response = httpx2.Response(status, request=httpx2.Request("POST", "http://localhost"))

    made = pllm.handle_openai_error(foreign("told", response=response, body=None))

    assert type(made) is ours
    assert isinstance(made, pllm.APIError)
    assert (made.message, made.status_code) == ("told", status)
    assert pllm.is_retryable_error(made) is (status >= 429)
    timeout = pllm.handle_openai_error(openai.APITimeoutError(httpx2.Request("POST", "http://localhost")))
    assert type(timeout) is pllm.TimeoutError
    assert type(pllm.handle_openai_error(KeyError("x"))) is pllm.ProcessingError


# What is carried.


def test_images_and_results_of_tools_are_part_of_the_conversation(side: Side, sim: Simulator) -> None:
    asked: list[SimRequest] = []

    def answer(request: SimRequest) -> SimAnswer:
        asked.append(request)
        return verdict(BOOK) if judging(request) else SimAnswer.value(BOOK | {"name": f"Book {request.index}"})

    sim.set(answers=answer)
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    messages = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PNG}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "a book"},
    ]

    found = pllm.ParallelLLM().parse_sync(side.model, messages, Recommendation)

    assert found == Recommendation(**BOOK)
    members = [request for request in asked if not judging(request)]
    (judge,) = [request for request in asked if judging(request)]
    assert len(members) == 3
    assert {request.media for request in asked} == {1}
    assert {name for request in members for name, _ in request.results} == {"look"}
    shown = json.loads(judge.prompt)
    assert shown["question"] == "tool: look gave a book" or "look gave a book" in shown["question"]
    assert "look(" in shown["conversation"][1]["text"]


def test_tools_may_be_called_in_place_of_an_answer(side: Side, sim: Simulator) -> None:
    cities = iter(["Rome", "Oslo", "Rome"])
    sim.set(answers=lambda request: SimAnswer.tool_calls([("weather", {"city": next(cities)})]))
    weather = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tell the weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    framework = pllm.ParallelLLM()

    completion = framework.chat.completions.parse_sync(
        side.model, MESSAGES, Recommendation, tools=[weather], tool_choice="required"
    )
    value = framework.parse_sync(side.model, MESSAGES, Recommendation, tools=[weather], tool_choice="required")

    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.parsed is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert (call.function.name, call.function.parsed_arguments) == ("weather", {"city": "Rome"})
    assert isinstance(value, Called)
    assert [(each.name, each.args) for each in value.calls] == [("weather", {"city": "Rome"})]
    assert sim.stats().answered == 3


def test_an_offered_tool_that_nobody_calls_changes_nothing(mini: str, sim: Simulator) -> None:
    def look(at: str) -> str:
        """Look at something."""
        return at

    found = pllm.ParallelLLM().parse_sync(
        mini, MESSAGES, Recommendation, tools=[look], tool_choice={"type": "function", "function": {"name": "look"}}
    )

    assert found == Recommendation(**BOOK)


REPLY = {
    "id": "reply-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": json.dumps(BOOK), "refusal": None},
            "logprobs": {
                "content": [{"token": "{", "logprob": -0.5, "bytes": None, "top_logprobs": []}],
                "refusal": None,
            },
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
}


def test_headers_query_and_log_probabilities(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Echo(REPLY) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "any-key")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        framework = pllm.create_framework(num_processors=1)

        def ask(**more: Any) -> Any:
            return framework.chat.completions.parse_sync("gpt-4o-mini", MESSAGES, Recommendation, **more)

        plain = ask()
        told = ask(extra_headers={"X-Team": "tea"}, extra_query={"trace": "1"}, logprobs=True, top_logprobs=0)
        again = ask(extra_headers={"X-Team": "tea"}, extra_query={"trace": "1"}, logprobs=True, top_logprobs=0)
        other = ask(extra_headers={"X-Team": "coffee"})

    (first, second, third) = server.requests
    assert "x-team" not in first[1]
    assert second[1]["x-team"] == "tea"
    assert second[0].endswith("/chat/completions?trace=1")
    assert second[2]["logprobs"] is True
    assert third[1]["x-team"] == "coffee"
    assert plain.choices[0].logprobs is None
    assert told.choices[0].logprobs.content[0].logprob == -0.5
    assert again.choices[0].logprobs == told.choices[0].logprobs
    assert other.choices[0].message.parsed == Recommendation(**BOOK)
    kept = b"".join(path.read_bytes() for path in cache_dir.rglob("*") if path.is_file())
    assert b"X-Team" not in kept


def test_headers_that_a_provider_has_no_place_for_are_refused(
    sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(GOOGLE, sim, monkeypatch)

    with pytest.raises(pllm.ParallelLLMError, match="extra_headers= and extra_query= have no equal at google"):
        pllm.ParallelLLM().parse_sync(GOOGLE.model, MESSAGES, Recommendation, extra_headers={"X-Team": "tea"})

    assert sim.stats().requests == 0


# What a person sees.


def refused_decision(request: SimRequest) -> SimAnswer:
    if judging(request):
        return SimAnswer.refusal("I will not.")
    return SimAnswer.value(BOOK | {"name": f"Book {request.index}"})


@pytest.mark.parametrize("way", ["awaited", "gathered", "task", "completion", "sync"])
def test_a_warning_names_the_callers_line(way: str, mini: str, sim: Simulator) -> None:
    sim.set(answers=refused_decision)
    framework = pllm.ParallelLLM()

    async def main() -> int:
        if way == "gathered":
            asked = framework.parse(mini, MESSAGES, Recommendation)
            line = sys._getframe().f_lineno - 1
            await asyncio.gather(asked)
        elif way == "task":
            await asyncio.create_task(framework.parse(mini, MESSAGES, Recommendation))
            line = sys._getframe().f_lineno - 1
        elif way == "completion":
            await framework.chat.completions.parse(mini, MESSAGES, Recommendation)
            line = sys._getframe().f_lineno - 1
        else:
            await framework.parse(mini, MESSAGES, Recommendation)
            line = sys._getframe().f_lineno - 1
        return line

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if way == "sync":
            framework.parse_sync(mini, MESSAGES, Recommendation)
            line = sys._getframe().f_lineno - 1
        else:
            line = asyncio.run(main())

    (told,) = [each for each in caught if issubclass(each.category, UserWarning)]
    assert str(told.message).startswith("The decision maker failed")
    assert (told.filename, told.lineno) == (__file__, line)


def test_a_warning_of_what_is_asked_names_the_callers_line_too(mini: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pllm.ParallelLLM().parse_sync(mini, MESSAGES, Recommendation, temperature=0)
        line = sys._getframe().f_lineno - 1

    (told,) = [each for each in caught if "temperature 0" in str(each.message)]
    assert (told.filename, told.lineno) == (__file__, line)


LOGGED = """
import asyncio, sys
import pllm_notebook as pllm
pllm.configure(cache_dir=sys.argv[1], progress=False)
{setup}
framework = pllm.create_framework(enable_logging={shown}, num_processors=2)
messages = [{{"role": "user", "content": "Well?"}}]
asyncio.run(framework.parse(model="sim:openai", messages=messages, response_format=bool))
"""


@pytest.mark.parametrize(
    ("setup", "shown", "lines"),
    [
        ("", True, 1),
        ("", False, 0),
        ("import logging; logging.basicConfig(level='INFO', format='%(name)s - %(message)s')", True, 1),
    ],
    ids=["shown", "not wanted", "shown by the program"],
)
def test_logs_show_once_where_they_are_wanted(setup: str, shown: bool, lines: int, tmp_path: Path) -> None:
    script = LOGGED.format(setup=setup, shown=shown)
    done = run_forked("-c", script, str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 of 2 processors answered") == lines


def test_every_hosted_provider_answers_a_bare_name(sim: Simulator, cache_dir: Path, monkeypatch: Any) -> None:
    for side in HOSTED:
        reach(side, sim, monkeypatch)
    sim.set(answers=lambda request: SimAnswer.value(BOOK))

    for side in HOSTED:
        assert pllm.ParallelLLM().parse_sync(side.name, MESSAGES, Recommendation) == Recommendation(**BOOK)
