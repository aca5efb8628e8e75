"""The settings of `ParallelLLM`, and what is made of a request before anything is sent."""

from __future__ import annotations

import inspect
import logging
from typing import Any, Literal

import pytest
from openai import NOT_GIVEN
from openai.types.chat import ChatCompletionMessage, ParsedChatCompletionMessage
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

import pllm_notebook as pllm
from pllm_notebook.ensemble.completion import error_of
from pllm_notebook.ensemble.openai_messages import read_messages
from pllm_notebook.ensemble.reasoning import reasoned
from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Turn
from pllm_notebook.providers import resolve
from pllm_notebook.providers.keywords import check_keywords, provider_fields
from pllm_notebook.schema import OutputType


def test_the_defaults_are_as_documented() -> None:
    config = pllm.create_default_config()

    assert config == pllm.FrameworkConfig(
        num_processors=3,
        timeout=30.0,
        max_retries=2,
        decision_maker_model=None,
        decision_maker_temperature=0.1,
        decision_maker_prompt=pllm.DECISION_MAKER_PROMPT,
        enable_logging=True,
        log_level="INFO",
    )


@pytest.mark.parametrize(
    ("make", "processors", "timeout", "retries", "temperature", "level"),
    [
        (pllm.create_performance_config, 5, 20.0, 1, 0.0, "INFO"),
        (pllm.create_robust_config, 3, 60.0, 3, 0.1, "INFO"),
        (pllm.create_development_config, 2, 15.0, 1, 0.1, "DEBUG"),
    ],
)
def test_presets(make: Any, processors: int, timeout: float, retries: int, temperature: float, level: str) -> None:
    config = make()

    assert (config.num_processors, config.timeout, config.max_retries) == (processors, timeout, retries)
    assert (config.decision_maker_temperature, config.log_level) == (temperature, level)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_processors", 0),
        ("num_processors", 1.5),
        ("num_processors", True),
        ("timeout", 0),
        ("timeout", float("inf")),
        ("max_retries", -1),
        ("decision_maker_temperature", 2.1),
        ("decision_maker_temperature", -0.1),
        ("decision_maker_temperature", float("nan")),
        ("decision_maker_model", ""),
        ("decision_maker_prompt", " "),
        ("enable_logging", "yes"),
        ("log_level", "LOUD"),
        ("log_level", 10),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(
        pllm.ConfigurationError, match=rf"^\[CONFIG_ERROR\] {name} is .*, not .*\. Nothing was sent\.$"
    ) as caught:
        pllm.FrameworkConfig(**{name: value})

    assert (caught.value.error_code, caught.value.kind) == ("CONFIG_ERROR", "configuration")
    assert isinstance(caught.value, UsageError)


def test_a_setting_that_no_one_reads_is_refused_with_a_guess() -> None:
    with pytest.raises(pllm.ConfigurationError, match=r"no setting 'num_processor'. Did you mean 'num_processors'\?"):
        pllm.create_framework(num_processor=5)


def test_a_refused_update_changes_nothing() -> None:
    framework = pllm.create_framework(num_processors=5)

    with pytest.raises(pllm.ConfigurationError):
        framework.update_config(timeout=10, max_retries=-1)

    assert framework.get_config() == pllm.FrameworkConfig(num_processors=5)


def test_a_level_may_be_written_small_and_changes_no_logger_of_the_process() -> None:
    logger, root = logging.getLogger("pllm_notebook"), logging.getLogger()
    before = logger.level, root.level, list(root.handlers)

    framework = pllm.create_framework(log_level="debug")

    assert framework.get_config().log_level == "DEBUG"
    assert (logger.level, root.level, list(root.handlers)) == before


@pytest.mark.parametrize(
    ("framework_level", "logger_level", "seen"),
    [
        ("INFO", logging.NOTSET, 1),
        ("WARNING", logging.NOTSET, 0),
        ("INFO", logging.ERROR, 0),
        ("INFO", logging.INFO, 1),
    ],
)
def test_a_frameworks_lines_have_its_own_level_unless_the_program_sets_one(
    framework_level: str, logger_level: int, seen: int, caplog: pytest.LogCaptureFixture, cache_dir: object
) -> None:
    caplog.set_level(logger_level, "pllm_notebook")
    framework = pllm.create_framework(log_level=framework_level, num_processors=1)

    framework.parse_sync(model="sim:openai", messages=[{"role": "user", "content": "Hi"}])

    assert len([record for record in caplog.records if "processors answered" in record.getMessage()]) == seen


def test_logging_that_is_off_leaves_the_logger_alone() -> None:
    logger = logging.getLogger("pllm_notebook")
    before = logger.level

    pllm.create_framework(enable_logging=False, log_level="ERROR")

    assert logger.level == before


def test_a_key_is_in_no_representation_and_no_summary() -> None:
    framework = pllm.ParallelLLM("sk-mine")

    shown = f"{framework!r} {framework} {framework.get_config()!r} {framework.get_config_summary()} {vars(framework)}"

    assert "sk-mine" not in shown
    assert framework.get_config_summary()["api_key"] == "given"
    assert pllm.ParallelLLM().get_config_summary()["api_key"] == "environment"


@pytest.mark.parametrize(
    ("given", "told"), [(("",), "api_key is empty"), ((None, {}), "config is a FrameworkConfig, not")]
)
def test_an_empty_key_or_a_mapping_for_a_config_is_refused(given: Any, told: str) -> None:
    with pytest.raises(pllm.ConfigurationError, match=rf"^\[CONFIG_ERROR\] {told}.*Nothing was sent\.$"):
        pllm.ParallelLLM(*given)


# Messages.


def test_messages_become_an_instruction_a_history_and_the_last_word() -> None:
    asked = read_messages(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One"},
            {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]},
            ChatCompletionMessage(role="assistant", content="Four"),
            ParsedChatCompletionMessage[Any](role="assistant", content="five", parsed=5),
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "Six"},
        ]
    )

    assert asked.system == "Be brief.\n\nBe kind."
    assert asked.history == (Turn("user", "One\n\ntwo\nthree"), Turn("assistant", "Four\n\nfive"))
    assert asked.prompt == "Six"


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ("hello", "messages is a list"),
        ([], "must be the user's"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "must be the user's"),
        ([{"role": "tool", "content": "a"}], "which no message before it makes"),
        ([{"role": "robot", "content": "a"}], "the role 'robot'"),
        (None, "messages is a list"),
        (3, "messages is a list"),
        ([{"content": "a"}], "without a role"),
        ([{"role": "user", "content": None}], "has no text"),
        ([{"role": "user", "content": [{"type": "video", "video": "x"}]}], "video"),
        ([{"role": "user", "content": "a", "name": "Ann"}], "has 'name'"),
        ([{"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]}], "tool"),
    ],
)
def test_what_is_not_carried_is_refused_and_nothing_is_sent(messages: Any, told: str) -> None:
    with pytest.raises(UsageError, match=rf"{told}.*Nothing was sent\.$"):
        read_messages(messages)


# Keywords.


def target(model: str) -> Any:
    return resolve(model, servers={"mine": "http://localhost/v1"}, clients={}, keys={}, simulator=lambda wire: "")


SAMPLING = {"top_p": 0.5, "stop": "END", "reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("openai:gpt-6-luna", SAMPLING),
        ("mine:small", SAMPLING),
        (
            "anthropic:claude-haiku-5-5",
            {"top_p": 0.5, "stop_sequences": ["END"], "output_config": {"effort": "low"}},
        ),
        (
            "google:gemini-3.8-flash",
            {
                "generationConfig": {
                    "topP": 0.5,
                    "stopSequences": ["END"],
                    "thinkingConfig": {"thinkingLevel": "LOW"},
                }
            },
        ),
    ],
)
def test_a_keyword_goes_in_each_providers_own_words(model: str, fields: dict[str, Any]) -> None:
    assert provider_fields(target(model), SAMPLING, {}) == fields


def test_responses_have_the_effort_in_a_field_of_its_own() -> None:
    assert provider_fields(target("openai:gpt-5-pro"), {"reasoning_effort": "high", "top_p": 1}, {}) == {
        "reasoning": {"effort": "high"},
        "top_p": 1,
    }


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        ("anthropic:claude-haiku-5-5", "seed", 1),
        ("anthropic:claude-haiku-5-5", "frequency_penalty", 0.5),
        ("google:gemini-3.8-flash", "user", "ann"),
        ("openai:gpt-5-pro", "stop", "END"),
    ],
)
def test_a_keyword_without_an_equal_is_refused_with_the_providers_name(model: str, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{name}= has no equal at {model}, .*Nothing was sent\.$"):
        provider_fields(target(model), {name: value}, {})


def test_a_value_without_an_equal_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^reasoning_effort= is one of 'low', .* at anthropic:.*, not 'none'"):
        provider_fields(target("anthropic:claude-haiku-5-5"), {"reasoning_effort": "none"}, {})


def test_what_the_caller_wrote_in_the_providers_words_stands() -> None:
    extra = {"generationConfig": {"topP": 0.9, "topK": 4}, "safetySettings": []}

    fields = provider_fields(target("google:gemini-3.8-flash"), {"top_p": 0.5, "seed": 7}, extra)

    assert fields == {"generationConfig": {"topP": 0.9, "seed": 7, "topK": 4}, "safetySettings": []}


def test_keywords_that_say_nothing_are_left_out() -> None:
    assert check_keywords({"seed": None, "stop": NOT_GIVEN, "n": 1, "stream": False, "top_p": 0.5}) == {"top_p": 0.5}


@pytest.mark.parametrize("name", ["n", "stream", "functions", "prediction"])
def test_a_keyword_that_is_not_carried_out_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^{name}= is not supported here: .* Nothing was sent\.$"):
        check_keywords({name: 3})


def test_a_misspelt_keyword_is_refused_with_a_guess() -> None:
    with pytest.raises(UnknownOptionError, match="Did you mean 'top_p'"):
        check_keywords({"topp": 0.5})


# Reasoning.


class Doubled(BaseModel):
    """A number, doubled as it is read."""

    model_config = ConfigDict(frozen=True, extra="allow")
    number: int
    note: str = "none"
    _seen: int = PrivateAttr(default=0)

    @field_validator("number")
    @classmethod
    def double(cls, value: int) -> int:
        return value * 2

    @model_validator(mode="after")
    def see(self) -> Doubled:
        self._seen = self.number
        return self


def test_reasoning_comes_before_the_answers_own_fields() -> None:
    made = reasoned(OutputType.of(Doubled)).output

    assert [field.name for field in made.fields or ()] == ["reasoning", "number", "note"]
    assert made.doc == "A number, doubled as it is read."
    assert made.name == "Doubled"


def test_an_answer_is_the_callers_own_type_validated_once() -> None:
    format_ = reasoned(OutputType.of(Doubled))
    value = format_.output.kind.model_validate({"reasoning": "since", "number": 2, "more": "x"})

    answer = format_.answer(value)

    assert type(answer) is Doubled
    assert answer.model_dump() == {"number": 4, "note": "none", "more": "x"}
    assert answer.model_fields_set == {"number", "more"}
    assert answer._seen == 4
    assert answer == Doubled.model_validate({"number": 2, "more": "x"})
    assert (format_.reasoning(value), value.reasoning) == ("since", "since")


@pytest.mark.parametrize("kind", [Literal["a", "b"], list[int], None])
def test_a_type_without_fields_is_put_beside_the_reasoning(kind: Any) -> None:
    format_ = reasoned(None if kind is None else OutputType.of(kind))
    answer: Any = [1] if kind == list[int] else "a"

    value = format_.output.kind.model_validate({"reasoning": "since", "answer": answer})

    assert [field.name for field in format_.output.fields or ()] == ["reasoning", "answer"]
    assert format_.answer(value) == answer


def test_a_type_that_reasons_already_is_asked_as_it_is() -> None:
    class Reasoner(BaseModel):
        why: str = Field(alias="reasoning")

    output = OutputType.of(Reasoner)
    format_ = reasoned(output)
    value = Reasoner.model_validate({"reasoning": "since"})

    assert format_.output is output
    assert (format_.answer(value), format_.reasoning(value)) == (value, None)


# Errors.


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FailureKind.TIMEOUT, pllm.LLMTimeoutError),
        (FailureKind.RATE_LIMIT, pllm.RateLimitError),
        (FailureKind.QUOTA, pllm.RateLimitError),
        (FailureKind.AUTHENTICATION, pllm.AuthenticationError),
        (FailureKind.PERMISSION, pllm.AuthenticationError),
        (FailureKind.UNKNOWN_MODEL, pllm.ModelError),
        (FailureKind.SERVER, pllm.APIError),
        (FailureKind.REFUSAL, pllm.LLMValidationError),
        (FailureKind.SCHEMA, pllm.LLMValidationError),
        (FailureKind.BUDGET, pllm.ParallelLLMError),
    ],
)
def test_each_kind_of_failure_has_its_error(kind: FailureKind, error: type[pllm.ParallelLLMError]) -> None:
    made = error_of(Failure(kind, "told", status=418, retry_after_s=3.0))

    assert type(made) is error
    assert (made.message, made.kind, made.error_code) == ("told", kind.value, error.code)
    if isinstance(made, pllm.APIError):
        assert (made.status_code, made.retry_after) == (418, 3.0)


def test_a_timeout_is_also_pythons_own() -> None:
    with pytest.raises(TimeoutError):
        raise error_of(Failure(FailureKind.TIMEOUT, "late"))


def test_one_kind_of_failure_is_the_kind_of_all() -> None:
    def failed(kind: str) -> pllm.FailedProcessor:
        return pllm.FailedProcessor("m", kind, "told", pllm.APIError("told", kind=kind))

    assert pllm.ProcessingError.of([failed("timeout"), failed("timeout")]).kind == "timeout"
    assert pllm.ProcessingError.of([failed("timeout"), failed("schema")]).kind == "processing"
    one = pllm.ProcessingError.of([failed("timeout")])
    assert str(one) == "[PROCESSING_ERROR] The processor failed. m (timeout): told"
    assert (one.failed_processors, one.causes) == (1, [failed_ := one.causes[0]])
    assert failed_.kind == "timeout"


def test_every_parse_takes_the_same_request() -> None:
    """They differ in what they return alone: the answer or the whole completion, awaited or not."""
    answer, completion = pllm.ParallelLLM, pllm.ParallelCompletionInterface
    taken = [
        [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]
        for method in (answer.parse, answer.parse_sync, completion.parse, completion.parse_sync)
    ]

    assert taken[0][1:5] == [
        (name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default)
        for name, default in {
            "model": None, "messages": None, "response_format": None, "pass_reasoning": False
        }.items()
    ]  # fmt: skip
    assert all(one == taken[0] for one in taken)


def test_settings_in_the_place_of_the_key_are_an_error_that_says_where_they_go() -> None:
    settings: Any = pllm.FrameworkConfig(num_processors=2)

    with pytest.raises(pllm.ConfigurationError, match="api_key is a string, not FrameworkConfig; pass settings"):
        pllm.ParallelLLM(settings)
