"""One request, several processors, one answer: over the wire, as OpenAI's client is used."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import pytest
from openai.types.chat import ParsedChatCompletion
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import live_of
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.echo import Echo
from tests.contract.sides import ANTHROPIC, COMPATIBLE, GOOGLE, OPENAI, Side, reach

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which one?"}]


class Product(BaseModel):
    """What to buy."""

    name: Literal["lamp", "chair", "desk"]
    price: int


def judging(request: SimRequest) -> bool:
    return '"candidates"' in request.messages[0][1]  # also in a repair turn


def ballot(request: SimRequest) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(request.messages[0][1])
    return shown


def verdict(answer: Any) -> SimAnswer:
    marks = dict.fromkeys(("accuracy", "completeness", "relevance", "quality", "consistency"), 7)
    return SimAnswer.value({"scores": [{"candidate": 1} | marks], "answer": answer})


def product(name: str, **more: Any) -> SimAnswer:
    return SimAnswer.value({"name": name, "price": 3} | more)


class Script:
    """Give the n-th request for an answer the n-th of *answers*, and a judge's to *judge*."""

    def __init__(self, *answers: Any, judge: Callable[[SimRequest], Any] | None = None) -> None:
        self._answers = answers
        self._judge = judge
        self._lock = threading.Lock()
        self.asked: list[SimRequest] = []
        self.judged: list[SimRequest] = []

    def __call__(self, request: SimRequest) -> Any:
        with self._lock:
            if judging(request):
                self.judged.append(request)
                assert self._judge is not None, "nobody should have been asked to decide"
                return self._judge(request)
            answer = self._answers[len(self.asked) % len(self._answers)]
            self.asked.append(request)
        return product(answer) if isinstance(answer, str) else answer


def ask(framework: pllm.ParallelLLM, model: str | None, **more: Any) -> Any:
    return framework.parse_sync(model=model, messages=MESSAGES, response_format=Product, **more)


async def aask(framework: pllm.ParallelLLM, model: str | None, **more: Any) -> Any:
    return await framework.parse(model=model, messages=MESSAGES, response_format=Product, **more)


DIFFERENT = ("lamp", "chair", "desk")
BROKEN = SimAnswer.status(400)


# What is given back.


def test_every_provider_gives_the_completion_that_openais_client_gives(side: Side, sim: Simulator) -> None:
    script = Script(*DIFFERENT, judge=lambda request: verdict({"name": "desk", "price": 5}))
    sim.set(answers=script)
    framework = pllm.ParallelLLM()

    completion = asyncio.run(
        framework.beta.chat.completions.parse(model=side.model, messages=MESSAGES, response_format=Product)
    )

    assert isinstance(completion, ParsedChatCompletion)
    (choice,) = completion.choices
    assert choice.message.parsed == Product(name="desk", price=5)
    assert type(choice.message.parsed) is Product
    assert choice.message.content == '{"name":"desk","price":5}'
    assert (choice.message.refusal, choice.finish_reason, completion.object) == (None, "stop", "chat.completion")
    assert completion.id
    assert completion.model
    assert abs(completion.created - time.time()) < 60
    assert (len(script.asked), len(script.judged)) == (3, 1)
    stats = sim.stats()
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == stats.input_tokens
    assert completion.usage.completion_tokens == stats.output_tokens
    assert completion.usage.total_tokens == stats.input_tokens + stats.output_tokens
    assert ParsedChatCompletion[Product].model_validate(completion.model_dump()).choices[0].message.parsed is not None


def test_the_clients_path_of_today_and_the_ways_without_await_give_the_same(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script("lamp"))
    framework = pllm.ParallelLLM()
    wanted = Product(name="lamp", price=3)

    today = asyncio.run(framework.chat.completions.parse(model=luna, messages=MESSAGES, response_format=Product))
    itself = asyncio.run(framework.parse(model=luna, messages=MESSAGES, response_format=Product))
    at_once = framework.chat.completions.parse_sync(model=luna, messages=MESSAGES, response_format=Product)

    assert today.choices[0].message.parsed == wanted
    assert itself == wanted
    assert at_once == today
    assert ask(framework, luna) == wanted


def test_without_a_format_the_answer_is_text(side: Side, sim: Simulator) -> None:
    sim.set(answers=Script(SimAnswer.text("A lamp.")))
    framework = pllm.ParallelLLM()

    completion = framework.chat.completions.parse_sync(model=side.model, messages=MESSAGES)

    assert (completion.choices[0].message.content, completion.choices[0].message.parsed) == ("A lamp.", None)
    assert framework.parse_sync(model=side.model, messages=MESSAGES) == "A lamp."


def test_a_chosen_samples_id_and_model_are_the_completions(luna: str, sim: Simulator) -> None:
    script = Script("lamp", "chair", "lamp", judge=lambda request: verdict({"name": "chair", "price": 3}))
    sim.set(answers=script)

    completion = pllm.ParallelLLM().chat.completions.parse_sync(model=luna, messages=MESSAGES, response_format=Product)

    assert completion.model == OPENAI.name
    ensemble = live_of(pllm.runs()[-1]).execution.decider
    (decision,) = ensemble.decisions.values()  # type: ignore[attr-defined]
    chosen = ensemble.outcomes(0)[decision.chosen]  # type: ignore[attr-defined]
    assert chosen.value == Product(name="chair", price=3)
    assert completion.id == chosen.replies()[-1]["request_id"]


def test_usage_counts_repairs_too(luna: str, sim: Simulator) -> None:
    first = SimAnswer.text('{"name": "sofa", "price": 3}')
    sim.set(answers=lambda request: first if len(request.messages) == 1 else product("lamp"))

    completion = pllm.ParallelLLM().chat.completions.parse_sync(model=luna, messages=MESSAGES, response_format=Product)

    stats = sim.stats()
    assert stats.requests == 6
    assert completion.usage is not None
    assert completion.usage.total_tokens == stats.input_tokens + stats.output_tokens


# Failures, and who decides.


def test_equal_answers_are_not_judged(side: Side, sim: Simulator) -> None:
    sim.set(answers=Script("lamp"))

    answer = ask(pllm.ParallelLLM(), side.model)

    assert answer.name == "lamp"
    assert sim.stats().requests == 3


def test_one_of_three_may_fail(side: Side, sim: Simulator) -> None:
    script = Script(BROKEN, "lamp", "chair", judge=lambda request: verdict({"name": "chair", "price": 3}))
    sim.set(answers=script)

    answer = ask(pllm.ParallelLLM(), side.model)

    assert answer.name == "chair"
    assert len(ballot(script.judged[0])["candidates"]) == 2


def test_one_success_is_not_judged(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script(BROKEN, "lamp", SimAnswer.refusal("No.")))

    assert ask(pllm.ParallelLLM(), luna).name == "lamp"


FAILURES: dict[str, tuple[SimAnswer, type[pllm.ParallelLLMError], int]] = {
    "bad_request": (BROKEN, pllm.APIError, 1),
    "server_error": (SimAnswer.status(500), pllm.APIError, 2),
    "truncated": (SimAnswer.truncated('{"name": "l'), pllm.LLMValidationError, 1),
    "schema": (SimAnswer.text('{"name": "sofa", "price": 3}'), pllm.LLMValidationError, 2),
    "unknown_model": (SimAnswer.status(404), pllm.ModelError, 1),
    "timeout": (SimAnswer.hang(), pllm.LLMTimeoutError, 2),
}


@pytest.mark.sample(8)
@pytest.mark.parametrize("kind", FAILURES)
def test_three_of_three_failing_is_an_error_with_each_cause(hosted: Side, sim: Simulator, kind: str) -> None:
    answer, error, requests_each = FAILURES[kind]
    sim.set(answers=Script(answer))
    timeout = 0.4 if kind == "timeout" else 30.0
    framework = pllm.create_framework(max_retries=1, timeout=timeout)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(pllm.ProcessingError) as caught:
            ask(framework, hosted.model)

    failed = caught.value.causes
    assert [one.model for one in failed] == [hosted.model] * 3
    assert [one.kind for one in failed] == [kind] * 3
    assert [type(one.cause) for one in failed] == [error] * 3
    assert all(one.message and one.cause.message == one.message for one in failed)
    assert caught.value.kind == kind
    assert caught.value.failed_processors == 3
    assert str(caught.value).startswith("[PROCESSING_ERROR] All 3 processors failed. ")
    assert caught.value.__cause__ is failed[0].cause
    assert sim.stats().requests == 3 * requests_each


def test_refusals_of_all_are_an_error_that_tells_them(side: Side, sim: Simulator) -> None:
    sim.set(answers=Script(SimAnswer.refusal("I will not.")))

    with pytest.raises(pllm.ProcessingError) as caught:
        ask(pllm.ParallelLLM(), side.model)

    assert {one.kind for one in caught.value.causes} <= {"refusal", "content_filter"}


def test_a_rate_limit_that_is_not_waited_for_says_how_long_to_wait(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script(SimAnswer.status(429, headers={"retry-after": "7"})))

    with pytest.raises(pllm.ProcessingError) as caught:
        ask(pllm.create_framework(max_retries=0), luna)

    cause = caught.value.causes[0].cause
    assert isinstance(cause, pllm.RateLimitError)
    assert (cause.status_code, cause.retry_after) == (429, 7.0)


def test_a_refused_key_is_not_tried_again_and_fails_every_processor(
    sim: Simulator, cache_dir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(OPENAI, sim, monkeypatch)

    with pytest.raises(pllm.ProcessingError) as caught:
        ask(pllm.ParallelLLM("bad-key"), OPENAI.model)

    assert caught.value.kind == "authentication"
    assert [type(one.cause) for one in caught.value.causes] == [pllm.AuthenticationError] * 3
    assert [one.cause.status_code for one in caught.value.causes] == [401] * 3  # type: ignore[attr-defined]
    assert sim.stats().requests == 3
    told = f"{caught.value} {caught.value!r} {caught.value.causes!r} {pllm.runs()[-1].errors!r}"
    assert "Incorrect API key provided" in told
    assert "bad-key" not in told


JUDGES: dict[str, tuple[SimAnswer, str]] = {
    "refuses": (SimAnswer.refusal("I will not."), "refusal"),
    "is cut off": (SimAnswer.truncated('{"scores": ['), "truncated"),
    "gives another format": (SimAnswer.text('{"winner": 1}'), "schema"),
    "is not there": (SimAnswer.status(404), "unknown_model"),
    "breaks down": (SimAnswer.status(500), "server_error"),
}


@pytest.mark.parametrize("what", JUDGES)
def test_where_the_decision_maker_fails_the_majority_stands_with_a_warning(
    luna: str, sim: Simulator, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, kind = JUDGES[what]
    sim.set(answers=Script("chair", "lamp", "chair", judge=lambda request: answer))
    framework = pllm.create_framework(max_retries=0)

    with pytest.warns(UserWarning, match=f"decision maker failed; the majority's answer is returned. {kind}") as warned:
        result = ask(framework, luna)

    assert result == Product(name="chair", price=3)
    assert [warning.filename for warning in warned] == [__file__]
    assert ("pllm_notebook", logging.WARNING, "The decision maker failed; the majority's answer is returned") in (
        caplog.record_tuples
    )


def test_where_the_decision_maker_has_no_key_the_majority_stands(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script("chair", "lamp", "chair"))
    framework = pllm.create_framework(decision_maker_model=ANTHROPIC.model)

    told = "majority's answer is returned. authentication: anthropic needs an API key"
    with pytest.warns(UserWarning, match=told) as warned:
        result = asyncio.run(aask(framework, luna))

    assert result.name == "chair"
    assert [warning.filename for warning in warned] == [__file__]


def test_where_all_differ_and_the_decision_maker_fails_it_is_the_first_answer(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script(*DIFFERENT, judge=lambda request: SimAnswer.refusal("No.")))

    with pytest.warns(UserWarning, match="majority's answer is returned"):
        result = ask(pllm.ParallelLLM(), luna)

    assert result == live_of(pllm.runs()[-1]).execution.decider.outcomes(0)[0].value  # type: ignore[attr-defined]


def test_a_decision_maker_that_cannot_be_named_is_refused_before_anything_is_sent(luna: str, sim: Simulator) -> None:
    framework = pllm.create_framework(decision_maker_model="nobody:x")

    with pytest.raises(
        pllm.DecisionMakerError,
        match=r"^\[DECISION_MAKER_ERROR\] The .* cannot be asked: There is no provider",
    ):
        ask(framework, luna)

    assert sim.stats().requests == 0


def test_the_decision_maker_is_the_providers_cheap_model_with_its_own_prompt(
    sim: Simulator, cache_dir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(ANTHROPIC, sim, monkeypatch)
    script = Script(*DIFFERENT, judge=lambda request: verdict({"name": "desk", "price": 3}))
    sim.set(answers=script)
    framework = pllm.create_framework(decision_maker_prompt="Pick the cheapest.")

    ask(framework, "anthropic:claude-sonnet-4-5", temperature=0.7, max_tokens=50)

    (judged,) = script.judged
    assert judged.model == ANTHROPIC.name
    assert judged.system == "Pick the cheapest."
    # Nothing is said of a temperature that the model does not take and nobody asked for.
    assert live_of(pllm.runs()[-1]).execution.decider.plan.further.options.temperature is None  # type: ignore[attr-defined]
    assert {request.body["temperature"] for request in script.asked} == {0.7}
    assert {request.body["max_tokens"] for request in script.asked} == {50}
    assert ballot(judged)["question"] == "Which one?"
    assert ballot(judged)["instruction"] == "Be brief."
    assert "claude" not in judged.prompt


def test_a_server_of_the_callers_own_decides_with_the_model_it_was_asked_for(compatible: Side, sim: Simulator) -> None:
    script = Script(*DIFFERENT, judge=lambda request: verdict({"name": "desk", "price": 3}))
    sim.set(answers=script)

    ask(pllm.ParallelLLM(), compatible.model)

    (judged,) = script.judged
    assert (judged.model, judged.body["temperature"]) == (compatible.name, 0.1)


# Several models.


def test_processors_of_different_providers_answer_at_once(
    sim: Simulator, cache_dir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (OPENAI, ANTHROPIC, GOOGLE, COMPATIBLE):
        reach(each, sim, monkeypatch)
    script = Script("lamp")
    sim.set(answers=script)
    models = [OPENAI.model, ANTHROPIC.model, GOOGLE.model, COMPATIBLE.model]

    answer = ask(pllm.ParallelLLM(), None, models=models, stop=["END"])

    assert answer.name == "lamp"
    asked = {request.provider: request.body for request in script.asked}
    assert (len(script.asked), len(asked)) == (4, 4)
    assert asked["openai"]["stop"] == asked["compatible"]["stop"] == ["END"]
    assert asked["anthropic"]["stop_sequences"] == ["END"]
    assert asked["google"]["generationConfig"]["stopSequences"] == ["END"]


def test_fewer_models_than_processors_take_turns(
    sim: Simulator, cache_dir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(OPENAI, sim, monkeypatch)
    reach(GOOGLE, sim, monkeypatch)
    script = Script("lamp")
    sim.set(answers=script)

    ask(pllm.ParallelLLM(), None, models=[OPENAI.model, GOOGLE.model])

    assert Counter(request.provider for request in script.asked) == {"openai": 2, "google": 1}


@pytest.mark.parametrize("trouble", ["refused", "missing"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_processor_whose_key_is_refused_or_missing_fails_alone(
    sim: Simulator, cache_dir: Any, monkeypatch: pytest.MonkeyPatch, trouble: str, place: int
) -> None:
    for each in (OPENAI, GOOGLE):
        reach(each, sim, monkeypatch)
    if trouble == "refused":
        reach(ANTHROPIC, sim, monkeypatch, "bad-key")
    script = Script("lamp", "chair", judge=lambda request: verdict({"name": "chair", "price": 3}))
    sim.set(answers=script)
    models = [OPENAI.model, GOOGLE.model]
    models.insert(place, ANTHROPIC.model)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        answer = ask(pllm.create_framework(decision_maker_model=OPENAI.model), None, models=models)

    run = pllm.runs()[-1]
    assert answer.name == "chair"
    assert run.state == "done"
    assert [(one.model, one.kind) for one in run.errors] == [(ANTHROPIC.model, "authentication")]
    assert {request.provider for request in script.asked} == {"openai", "google"}


def test_a_key_that_all_processors_lack_is_named_and_nothing_is_sent(cache_dir: Any) -> None:
    with pytest.raises(pllm.ProcessingError, match="the environment variable OPENAI_API_KEY is not set") as caught:
        ask(pllm.ParallelLLM(), OPENAI.model)

    assert caught.value.kind == "authentication"


def test_a_key_given_as_argument_reaches_its_provider_only(
    cache_dir: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pllm_notebook")
    refused = {"error": {"message": "no", "type": "invalid_request_error"}}
    with Echo(refused, 400) as openai, Echo(refused, 400) as anthropic, Echo(refused, 400) as mine:
        monkeypatch.setenv("OPENAI_BASE_URL", openai.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-other")
        pllm.configure(servers={"mine": mine.url})
        framework = pllm.create_framework("sk-argument", log_level="DEBUG")

        with pytest.raises(pllm.ProcessingError) as caught:
            ask(framework, None, models=[OPENAI.model, ANTHROPIC.model, COMPATIBLE.model])
        with pytest.raises(pllm.ProcessingError):
            ask(framework, COMPATIBLE.model, salt="another draw")

    keys = {
        name: [headers.get("x-api-key") or headers["authorization"].split()[1] for _, headers, _ in echo.requests]
        for name, echo in {"openai": openai, "anthropic": anthropic, "mine": mine}.items()
    }
    assert keys["openai"] == ["sk-argument"]
    assert keys["anthropic"] == ["sk-other"]
    assert keys["mine"] == ["none", *["sk-argument"] * 3]
    run = live_of(pllm.runs()[-1])
    plan = run.execution.decider.plan  # type: ignore[union-attr]
    told = f"{framework!r} {run!r} {run.rows!r} {vars(run.rows)} {plan!r} {caught.value!r} {caplog.text}"
    assert "sk-argument" not in told
    assert "sk-argument" not in os.environ.values()


def test_what_is_in_the_cache_needs_no_key(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.set(answers=Script("lamp"))
    ask(pllm.ParallelLLM(), luna)
    monkeypatch.delenv("OPENAI_API_KEY")

    assert ask(pllm.ParallelLLM(), luna).name == "lamp"


def test_many_requests_at_once_keep_apart(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: product(("lamp", "chair", "desk")[int(request.prompt) % 3]))
    framework = pllm.ParallelLLM()

    async def all_at_once() -> list[Product]:
        asked = [
            framework.parse(
                model=side.model, messages=[{"role": "user", "content": str(number)}], response_format=Product
            )
            for number in range(12)
        ]
        return await asyncio.gather(*asked)

    assert [answer.name for answer in asyncio.run(all_at_once())] == ["lamp", "chair", "desk"] * 4


# Settings.


def test_an_update_takes_effect_on_the_next_request(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script("lamp"))
    framework = pllm.create_framework(num_processors=2)
    ask(framework, luna, salt="one")
    before = sim.stats().requests

    framework.update_config(num_processors=5)
    ask(framework, luna, salt="two")

    assert (before, sim.stats().requests) == (2, 7)


def test_one_processor_is_one_plain_call(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script("lamp"))

    answer = ask(pllm.create_framework(num_processors=1), luna)

    assert answer.name == "lamp"
    assert sim.stats().requests == 1


def test_a_timeout_of_one_request_goes_before_the_settings(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script(SimAnswer.hang()))
    framework = pllm.create_framework(timeout=100, max_retries=0)

    with pytest.raises(pllm.ProcessingError) as caught:
        ask(framework, luna, timeout=0.3)

    assert caught.value.kind == "timeout"


def test_more_samples_pay_only_for_those_that_are_new(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script("lamp"))
    framework = pllm.create_framework(num_processors=3)
    ask(framework, luna)
    ask(framework, luna)
    before = sim.stats().requests

    framework.update_config(num_processors=5)
    ask(framework, luna)

    assert (before, sim.stats().requests) == (3, 5)
    with pytest.raises(pllm.ProcessingError) as caught:
        framework.parse_sync(model=luna, messages=[{"role": "user", "content": "New?"}], cache="only")
    assert caught.value.kind == "not_cached"


def test_temperature_0_for_several_samples_of_one_model_is_remarked_on(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script("lamp"))

    with pytest.warns(UserWarning, match="Several samples of one model at temperature 0"):
        ask(pllm.ParallelLLM(), luna, temperature=0)


def test_the_log_tells_counts_and_no_contents(luna: str, sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pllm_notebook")
    sim.set(answers=Script(BROKEN, "lamp", "lamp"))

    ask(pllm.ParallelLLM(), luna)
    ask(pllm.create_framework(enable_logging=False), luna, salt="again")

    told = [message for _, _, message in caplog.record_tuples if "processors" in message]
    assert told == ["2 of 3 processors answered; decided by: all are equal, no decision maker was asked"]
    assert "Which one?" not in caplog.text
    assert '"lamp"' not in caplog.text


# What goes on the wire.


def test_reasoning_is_asked_for_shown_to_the_judge_and_not_in_the_result(side: Side, sim: Simulator) -> None:
    def reasoned(name: str, why: str) -> SimAnswer:
        return SimAnswer.value({"reasoning": why, "name": name, "price": 3})

    script = Script(
        reasoned("lamp", "It is dark."),
        reasoned("chair", "I am tired."),
        reasoned("chair", "It is soft."),
        judge=lambda request: verdict({"name": "chair", "price": 3}),
    )
    sim.set(answers=script)

    answer = ask(pllm.ParallelLLM(), side.model, pass_reasoning=True)

    assert type(answer) is Product
    assert answer == Product(name="chair", price=3)
    assert all(next(iter((request.schema or {})["properties"])) == "reasoning" for request in script.asked)
    (judged,) = script.judged
    candidates = {one["answer"]["name"]: (one["given"], one["reasoning"]) for one in ballot(judged)["candidates"]}
    assert candidates == {"lamp": (1, ["It is dark."]), "chair": (2, ["I am tired.", "It is soft."])}
    assert "reasoning" not in json.dumps((judged.schema or {}).get("properties"))


def test_agreement_is_counted_without_the_reasoning(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: product("lamp", reasoning=f"Because of {request.index}."))

    answer = ask(pllm.ParallelLLM(), luna, pass_reasoning=True)

    assert answer == Product(name="lamp", price=3)
    assert sim.stats().requests == 3


@pytest.mark.parametrize("kind", [Literal["yes", "no"], None])
def test_an_answer_without_fields_may_be_reasoned_too(luna: str, sim: Simulator, kind: Any) -> None:
    sim.set(answers=lambda request: SimAnswer.value({"reasoning": f"{request.index}", "answer": "yes"}))

    answer = pllm.ParallelLLM().parse_sync(model=luna, messages=MESSAGES, response_format=kind, pass_reasoning=True)

    assert answer == "yes"


def test_a_conversation_reaches_the_model_and_the_judge(side: Side, sim: Simulator) -> None:
    script = Script(*DIFFERENT, judge=lambda request: verdict({"name": "desk", "price": 3}))
    sim.set(answers=script)
    messages = [
        {"role": "user", "content": "I need light."},
        {"role": "assistant", "content": "For reading?"},
        {"role": "user", "content": "Yes."},
        {"role": "user", "content": [{"type": "text", "text": "Which one?"}]},
    ]

    pllm.ParallelLLM().parse_sync(model=side.model, messages=messages, response_format=Product)

    turns = (("user", "I need light."), ("assistant", "For reading?"), ("user", "Yes.\n\nWhich one?"))
    assert {request.messages for request in script.asked} == {turns}
    assert [turn["text"] for turn in ballot(script.judged[0])["conversation"]] == ["I need light.", "For reading?"]


def test_extra_body_goes_to_the_provider_as_it_is(luna: str, sim: Simulator) -> None:
    script = Script("lamp")
    sim.set(answers=script)

    ask(pllm.ParallelLLM(), luna, extra_body={"service_tier": "flex"}, reasoning_effort="low", max_completion_tokens=99)

    body = script.asked[0].body
    assert (body["service_tier"], body["reasoning_effort"], body["max_completion_tokens"]) == ("flex", "low", 99)


@pytest.mark.parametrize("given", [{"seed": 1}, {"n": 2}, {"stream": True}, {"temprature": 1}, {"logprobs": True}])
def test_a_keyword_that_cannot_be_carried_out_is_refused_and_nothing_is_sent(
    sim: Simulator, cache_dir: Any, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    reach(ANTHROPIC, sim, monkeypatch)

    with pytest.raises(UsageError, match=rf"{next(iter(given))}.*Nothing was sent\.$"):
        ask(pllm.ParallelLLM(), ANTHROPIC.model, **given)

    assert sim.stats().requests == 0


def test_a_request_that_is_given_up_is_cancelled(luna: str, sim: Simulator) -> None:
    sim.set(answers=Script(SimAnswer.hang()))

    async def give_up() -> None:
        asking = asyncio.ensure_future(aask(pllm.ParallelLLM(), luna))
        while not sim.stats().in_flight:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asking

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(give_up())

    assert pllm.runs()[-1].state == "cancelled"
