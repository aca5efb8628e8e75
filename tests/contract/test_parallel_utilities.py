"""A list of prompts that differ in everything is one run: outputs in order, each with its own fate."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook import (
    LLMConfig,
    LLMOutput,
    LLMPromptContext,
    ParallelAIUtilities,
    RequestLimits,
    ToolCallOutput,
)
from pllm_notebook.exceptions import RunInterrupted, UnknownOptionError, UsageError
from pllm_notebook.prompt_lists.build import prepare_prompts
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.sides import ANTHROPIC, COMPATIBLE, GOOGLE, HOSTED, OPENAI, Side, reach

Format = Literal["text", "json_object", "json_beg", "structured_output", "tool"]


class Drink(BaseModel):
    """A drink."""

    name: str
    cups: int = Field(ge=1)


def weigh(what: str) -> str:
    """Weigh something.

    Args:
        what: What to weigh.
    """
    return f"{len(what)} g"


@pytest.fixture
def three(sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Three providers."""
    for side in (OPENAI, ANTHROPIC, GOOGLE):
        reach(side, sim, monkeypatch)
    sim.set(answers=lambda request: f"{request.provider}: {request.prompt}")
    return sim


def asked(prompt: LLMPromptContext, **options: Any) -> LLMOutput:
    (output,) = ParallelAIUtilities(**options).run_parallel_ai_completion_sync([prompt])
    return output


def prompt_for(side: Side, said: Any = "Tea?", form: Format = "text", **fields: Any) -> LLMPromptContext:
    config = LLMConfig(client=side.provider, model=side.name, response_format=form)
    return LLMPromptContext(new_message=said, llm_config=config, **fields)


# Order and identity.


def test_outputs_stand_in_the_lists_order_whoever_answered(three: Simulator) -> None:
    clients = ["openai", "anthropic", "google"]
    prompts = [
        LLMPromptContext(
            id=f"id {at}",
            new_message=f"prompt {at}",
            system_string="Be brief." if at % 2 else None,
            llm_config=LLMConfig(client=clients[at % 3], max_tokens=100 + at % 2),
        )
        for at in range(24)
    ]

    outputs = asyncio.run(ParallelAIUtilities().run_parallel_ai_completion(prompts))

    assert [output.source_id for output in outputs] == [f"id {at}" for at in range(24)]
    assert [output.str_content for output in outputs] == [f"{clients[at % 3]}: prompt {at}" for at in range(24)]
    assert three.stats().requests == 24
    assert [output.result_type for output in outputs[:3]] == ["chat", "messages", "generate"]


def test_equal_prompts_are_one_call_and_each_has_an_output_under_its_own_id(three: Simulator) -> None:
    outputs = ParallelAIUtilities().run_parallel_ai_completion_sync(
        [LLMPromptContext(id=name, new_message="Tea?") for name in ("a", "b", "a")]
    )

    assert [output.source_id for output in outputs] == ["a", "b", "a"]
    assert {output.str_content for output in outputs} == {"openai: Tea?"}
    assert three.stats().requests == 1


def test_a_plain_prompt_is_the_same_question_as_a_row_of_a_frame(three: Simulator) -> None:
    import pandas as pd

    pd.DataFrame({"text": ["Tea?"]}).llm.complete("{text}", model=OPENAI.model, system="Be brief.")

    output = asked(LLMPromptContext(new_message="Tea?", system_string="Be brief."))

    assert output.str_content == "openai: Tea?"
    assert three.stats().requests == 1


def test_an_answer_from_the_cache_says_so_by_its_time_and_has_the_providers_body(three: Simulator) -> None:
    prompt = LLMPromptContext(id="a", new_message="Tea?")

    first, second = asked(prompt), asked(prompt)

    assert first.time_taken is not None
    assert second.time_taken is None
    assert second.model_dump(exclude={"time_taken"}) == first.model_dump(exclude={"time_taken"})
    assert second.raw_result is not None
    assert second.raw_result["choices"][0]["message"]["content"] == "openai: Tea?"
    assert second.usage is not None
    assert second.cost is not None


def test_an_empty_list_gives_an_empty_list(three: Simulator) -> None:
    assert ParallelAIUtilities().run_parallel_ai_completion_sync([]) == []


# Formats.


@pytest.mark.parametrize("side", HOSTED, ids=lambda side: side.id)
@pytest.mark.parametrize("form", ["json_object", "json_beg", "structured_output", "tool"])
def test_each_format_brings_the_object_from_each_provider(
    side: Side, form: Format, sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(side, sim, monkeypatch)

    def answer(request: SimRequest) -> Any:
        if request.tools:
            return SimAnswer.tool_calls([("Drink", {"name": "tea", "cups": 2})])
        prefilled = request.messages[-1][0] not in ("user",)
        return '"name": "tea", "cups": 2}' if prefilled else '{"name": "tea", "cups": 2}'

    sim.set(answers=answer)

    output = asked(prompt_for(side, form=form, structured_output=Drink))

    assert output.error is None
    assert output.json_object == {"name": "tea", "cups": 2}
    assert output.contains_object
    assert [call.name for call in output.tool_calls] == (["Drink"] if form == "tool" else [])


def test_a_server_that_takes_a_beginning_goes_on_from_it(
    sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(COMPATIBLE, sim, monkeypatch)
    sim.set(answers=lambda request: '"cups": 2}' if request.messages[-1] == ("assistant", "{") else "…")

    output = asked(prompt_for(COMPATIBLE, form="json_beg"))

    assert (output.str_content, output.json_object) == ('{"cups": 2}', {"cups": 2})


@pytest.mark.parametrize("form", ["structured_output", "tool"])
def test_a_dataclass_is_asked_for_as_an_object_too(three: Simulator, form: Format) -> None:
    @dataclass
    class Cup:
        size: int

    def answer(request: SimRequest) -> Any:
        return SimAnswer.tool_calls([("Cup", {"size": 2})]) if request.tools else '{"size": 2}'

    three.set(answers=answer)

    output = asked(prompt_for(OPENAI, form=form, structured_output=Cup))

    assert (output.error, output.json_object, output.contains_object) == (None, {"size": 2}, True)


@pytest.mark.parametrize("form", ["structured_output", "tool"])
def test_a_beginning_and_an_object_that_the_provider_writes_whole_do_not_go_together(
    three: Simulator, form: Format
) -> None:
    output = asked(prompt_for(GOOGLE, form=form, structured_output=Drink, prefill='{"name":'))

    assert output.error is not None
    assert output.error.startswith(f"input: The prompt has a prefill, and with response_format='{form}' the provider")
    assert three.stats().requests == 0


def test_an_answer_that_is_no_object_or_does_not_fit_is_a_failure_that_keeps_its_text(three: Simulator) -> None:
    three.set(answers=lambda request: "No." if "none" in request.prompt else '{"name": "tea", "cups": 0}')

    outputs = ParallelAIUtilities().run_parallel_ai_completion_sync(
        [prompt_for(OPENAI, said, "json_object", structured_output=Drink) for said in ("none", "few")]
    )

    assert [output.error for output in outputs] == [
        "invalid_json: The answer contains no JSON object.",
        "schema: cups: Input should be greater than or equal to 1 (got 0)",
    ]
    assert [output.str_content for output in outputs] == ["No.", '{"name": "tea", "cups": 0}']


def test_a_repaired_answer_has_the_body_of_the_reply_that_it_came_from(three: Simulator) -> None:
    three.set(answers=lambda request: {"name": "tea", "cups": 0 if len(request.messages) == 1 else 3})
    prompt = prompt_for(ANTHROPIC, form="structured_output", structured_output=Drink)

    for cache in ("use", "use", "refresh"):
        output = asked(prompt, cache=cache)

        assert output.json_object == {"name": "tea", "cups": 3}
        assert output.raw_result is not None
        assert output.raw_result["content"][0]["text"] == output.str_content == '{"name":"tea","cups":3}'


def test_an_image_and_a_document_reach_the_model(three: Simulator) -> None:
    from tests.prompt_lists.test_prompt_contexts import PDF, PNG, PNG_64

    prompt = prompt_for(ANTHROPIC, ["What is this?", PNG, {"type": "document", "document": PDF}])

    output = asked(prompt)

    assert output.str_content == "anthropic: What is this?"
    (content,) = (message["content"] for message in three.requests()[-1]["body"]["messages"])
    assert [part["type"] for part in content] == ["image", "document", "text"]
    assert content[0]["source"]["data"] == PNG_64


# Failures.


def test_a_missing_key_fails_the_prompts_of_its_provider_alone(
    three: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")

    outputs = ParallelAIUtilities().run_parallel_ai_completion_sync(
        [prompt_for(side, f"prompt {at}") for at in range(2) for side in (OPENAI, ANTHROPIC, GOOGLE)]
    )

    assert [output.error is None for output in outputs] == [True, False, True] * 2
    assert {(output.error or "").partition(":")[0] for output in outputs[1::3]} == {"authentication"}
    assert three.stats().answered == 4


def test_a_prompt_that_cannot_be_asked_fails_alone_and_nothing_is_sent_for_it(three: Simulator) -> None:
    prompts = [
        LLMPromptContext(new_message="good"),
        LLMPromptContext(new_message="no such server", llm_config=LLMConfig(client="vlm", model="x")),
        LLMPromptContext(new_message="no model", llm_config=LLMConfig(client="mine")),
        LLMPromptContext(new_message="no schema", llm_config=LLMConfig(response_format="structured_output")),
        LLMPromptContext(history=[{"role": "assistant", "content": "nothing is asked"}]),
        LLMPromptContext(new_message="begun", prefill="Yes"),
        LLMPromptContext(new_message=[{"type": "image", "image": "/nowhere/tea.png"}]),
    ]

    outputs = ParallelAIUtilities().run_parallel_ai_completion_sync(prompts)

    assert outputs[0].error is None
    for output in outputs[1:]:
        assert output.error is not None
        assert output.error.startswith("input: ")
        assert "Nothing was sent" in output.error
    assert three.stats().requests == 1


def test_a_list_of_which_nothing_can_be_asked_is_a_list_of_failures(three: Simulator) -> None:
    output = asked(LLMPromptContext(new_message="Tea?", llm_config=LLMConfig(client="vlm", model="x")))

    assert output.error is not None
    assert "no provider 'vlm'" in output.error


def test_a_refusal_is_the_failure_of_its_prompt_and_what_it_cost_is_told(three: Simulator) -> None:
    three.set(answers=lambda request: SimAnswer.refusal("No.") if "bad" in request.prompt else request.prompt)

    good, bad = ParallelAIUtilities().run_parallel_ai_completion_sync(
        [LLMPromptContext(new_message="good"), LLMPromptContext(new_message="bad")]
    )

    assert good.error is None
    assert bad.error is not None
    assert bad.error.startswith("refusal: ")
    assert bad.cost is not None
    assert bad.cost > 0
    assert bad.raw_result is not None


def test_what_the_money_is_not_enough_for_is_not_sent(three: Simulator) -> None:
    outputs = ParallelAIUtilities(max_cost_usd=0.0).run_parallel_ai_completion_sync(
        [LLMPromptContext(new_message=f"prompt {at}") for at in range(3)]
    )

    assert [(output.error or "").partition(":")[0] for output in outputs] == ["budget"] * 3
    assert three.stats().requests == 0


def test_a_run_that_is_stopped_raises_and_keeps_what_was_answered(three: Simulator) -> None:
    asked_slowly = threading.Event()

    def answer(request: SimRequest) -> Any:
        if request.prompt == "quick":
            return "quick"
        asked_slowly.set()
        return SimAnswer.hang()

    three.set(answers=answer)
    prompts = [LLMPromptContext(new_message=said) for said in ("quick", "slow")]
    asked(prompts[0])

    async def main() -> None:
        run = asyncio.ensure_future(ParallelAIUtilities().run_parallel_ai_completion(prompts))
        await asyncio.to_thread(asked_slowly.wait)
        pllm.runs()[-1].cancel()
        await run

    with pytest.raises(RunInterrupted):
        asyncio.run(main())

    quick, slow = pllm.runs()[-1].to_frame()
    assert quick.str_content == "quick"
    assert slow.error is not None
    assert pllm.errors(pllm.runs()[-1])[0]["position"] == 1


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        (LLMPromptContext(id="a", new_message="-"), r"not LLMPromptContext\. Put it into \[ \]\. Nothing was sent\."),
        (None, r"not NoneType\."),
        (["Tea?"], r"prompts\[0\] is str, not an LLMPromptContext\. Nothing was sent\."),
    ],
)
def test_what_is_no_list_of_prompts_is_refused_in_words(prompts: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ParallelAIUtilities().run_parallel_ai_completion_sync(prompts)
    with pytest.raises(UsageError, match=told):
        pllm.prepare_requests_file(prompts, "never.jsonl")


def test_limits_are_no_mapping() -> None:
    with pytest.raises(UsageError, match=r"Limits are RequestLimits\(…\), not dict\. Nothing was sent\."):
        ParallelAIUtilities({"max_requests_per_minute": 5})  # type: ignore[arg-type]


def test_an_option_that_no_list_reads_is_an_error() -> None:
    with pytest.raises(UnknownOptionError, match="temperature"):
        ParallelAIUtilities(temperature=0.5)
    with pytest.raises(UsageError, match="Two of the limits are for 'openai'"):
        ParallelAIUtilities(RequestLimits(), RequestLimits(provider="openai"))


def test_a_list_goes_by_the_batch_jobs_of_each_provider(three: Simulator) -> None:
    three.set(batch_s=0)
    prompts = [prompt_for(side, f"prompt {at}") for at in range(2) for side in (OPENAI, ANTHROPIC, GOOGLE)]

    outputs = ParallelAIUtilities(mode="batch", confirm=False).run_parallel_ai_completion_sync(prompts)

    assert [output.error for output in outputs] == [None] * 6
    assert outputs[4].str_content == "anthropic: prompt 1"
    assert (three.stats().requests, three.stats().batch_lines) == (0, 6)


# Grouping, caches and limits.


def test_instructions_that_few_prompts_have_do_not_make_courses_of_their_own(three: Simulator) -> None:
    prompts = [LLMPromptContext(new_message="Tea?", system_string=f"You are host {at}.") for at in range(60)]
    prompts += [LLMPromptContext(new_message=f"Tea {at}?", system_string="You are the cook.") for at in range(20)]
    three.set(answers=lambda request: request.system)

    outputs = ParallelAIUtilities().run_parallel_ai_completion_sync(prompts)

    assert [output.str_content for output in outputs] == [prompt.system_string for prompt in prompts]
    assert len(prepare_prompts(prompts, {}, {}).parts) == 2


def test_an_instruction_that_stands_alone_is_not_marked_for_the_providers_cache(three: Simulator) -> None:
    systems = [f"You are host {at // 2}. " + "Know this by heart. " * 2000 for at in range(4)]
    config = LLMConfig(client="anthropic")
    prompts = [
        LLMPromptContext(new_message=f"Tea {at}?", system_string=system, llm_config=config)
        for at, system in enumerate([*systems, "Alone. " * 5000])
    ]

    ParallelAIUtilities().run_parallel_ai_completion_sync(prompts)

    marked = {str(sent["body"]["system"])[-1_000:].count("cache_control") for sent in three.requests()}
    alone = [sent for sent in three.requests() if "Alone" in str(sent["body"])]
    assert marked == {0, 1}
    assert "cache_control" not in str(alone[0]["body"])


@pytest.mark.parametrize("use_cache", [True, False])
def test_the_provider_is_told_what_to_keep_only_where_it_is_to_keep_it(three: Simulator, use_cache: bool) -> None:
    config = LLMConfig(client="anthropic", use_cache=use_cache)
    system = "Know this by heart. " * 2000

    ParallelAIUtilities().run_parallel_ai_completion_sync(
        [LLMPromptContext(new_message=f"Tea {at}?", system_string=system, llm_config=config) for at in range(10)]
    )

    marked = [sent for sent in three.requests() if "cache_control" in str(sent["body"])]
    assert len(marked) == (10 if use_cache else 0)


def test_a_provider_that_does_not_answer_holds_no_other_back(three: Simulator) -> None:
    counted = itertools.count(1)
    through = threading.Event()

    def answer(request: SimRequest) -> str:
        if request.provider == "openai":
            # Nothing of it comes back before the other has answered all: whoever waited for it would wait in vain.
            assert through.wait(180)
        elif next(counted) == 200:
            through.set()
        return request.prompt

    three.set(answers=answer)
    prompts = [prompt_for(OPENAI if at % 11 == 0 else ANTHROPIC, f"prompt {at}") for at in range(220)]

    outputs = ParallelAIUtilities(timeout_s=200).run_parallel_ai_completion_sync(prompts)

    assert [output.str_content for output in outputs] == [f"prompt {at}" for at in range(220)]
    assert three.stats().answer_errors == ()


def test_all_models_of_a_provider_keep_one_ceiling_over_all_lists(three: Simulator) -> None:
    utilities = ParallelAIUtilities(
        RequestLimits(max_requests_per_minute=600),
        google_request_limits=RequestLimits(provider="mine", max_tokens_per_minute=1000),
    )
    models = ["gpt-6-luna", "gpt-6-terra", "gpt-6-luna"]
    prompts = [LLMPromptContext(new_message="Tea?", llm_config=LLMConfig(model=model)) for model in models]
    prompts.append(LLMPromptContext(new_message="Tea?", llm_config=LLMConfig(client="anthropic")))

    parts = [part for _ in range(2) for part in prepare_prompts(prompts, utilities._options, utilities._ceilings).parts]

    assert [part.spec.ceiling is utilities._ceilings["openai"] for part in parts] == [True, True, False] * 2
    assert parts[2].spec.ceiling is None
    assert "openai: UserRateLimit(requests=600 a minute, tokens=none, in_flight=0, " in repr(utilities)
    assert "mine: UserRateLimit(requests=none, tokens=1000 a minute, in_flight=0, " in repr(utilities)


# Tools.


def test_calls_are_given_with_their_arguments_read(hosted: Side, sim: Simulator) -> None:
    calls = [("weigh", {"what": "tea"}), ("weigh", {"what": "milk"})]
    sim.set(answers=lambda request: SimAnswer.tool_calls(calls))

    (output,) = ParallelAIUtilities().run_parallel_ai_tool_completion_sync([prompt_for(hosted, tools=[weigh])])

    assert output.error is None
    assert [(call.name, call.arguments) for call in output.tool_calls] == calls
    assert len({call.id for call in output.tool_calls}) == 2
    assert LLMOutput.model_validate_json(output.model_dump_json()) == output


def test_a_list_of_tool_prompts_in_which_some_have_none_is_refused_by_their_ids(three: Simulator) -> None:
    prompts = [LLMPromptContext(id="with", new_message="Tea?", tools=[weigh])]
    prompts += [LLMPromptContext(id=f"without {at}", new_message="Tea?") for at in range(7)]

    with pytest.raises(UsageError, match=r"7 of 8 prompts have no tools: 'without 0', .* and 2 more"):
        asyncio.run(ParallelAIUtilities().run_parallel_ai_tool_completion(prompts))

    assert three.stats().requests == 0


def test_a_choice_of_tools_is_for_those_that_have_tools(three: Simulator) -> None:
    three.set(answers=lambda request: str(request.body.get("tool_choice")))

    outputs = ParallelAIUtilities(tool_choice="none", parallel_tool_calls=False).run_parallel_ai_completion_sync(
        [prompt_for(OPENAI, "with", tools=[weigh]), prompt_for(OPENAI, "without")]
    )

    assert [output.str_content for output in outputs] == ["none", "None"]


def test_a_conversation_goes_on_from_its_calls_to_its_answer(hosted: Side, sim: Simulator) -> None:
    def answer(request: SimRequest) -> Any:
        if not any(role == "tool" or "5 g" in text for role, text in request.messages):
            return SimAnswer.tool_calls([("weigh", {"what": "cocoa"})])
        return "It weighs 5 g."

    sim.set(answers=answer)
    prompt = prompt_for(hosted, "What does cocoa weigh?", tools=[weigh])
    first = asked(prompt)
    (call,) = first.tool_calls

    # As it would be after a restart: nothing but JSON is left.
    prompt = LLMPromptContext.model_validate_json(prompt.model_dump_json())
    prompt = prompt.add_chat_turn_history(
        LLMOutput.model_validate_json(first.model_dump_json()),
        [ToolCallOutput(id=call.id, name=call.name, content=weigh(**call.arguments))],
    )
    second = asked(prompt)
    prompt = prompt.add_chat_turn_history(second)
    prompt.new_message = "And twice that?"
    third = asked(prompt)

    assert [second.str_content, third.str_content] == ["It weighs 5 g."] * 2
    assert [message["role"] for message in prompt.history] == ["user", "assistant", "tool", "assistant"]
    assert sim.stats().rejected == 0


def test_functions_run_only_where_they_are_told_to(hosted: Side, sim: Simulator) -> None:
    def answer(request: SimRequest) -> Any:
        if len(request.messages) == 1:
            return SimAnswer.tool_calls([("weigh", {"what": "cocoa"})])
        return "It weighs 5 g."

    sim.set(answers=answer)

    output = asked(prompt_for(hosted, tools=[weigh]), run_tools=True)

    assert (output.str_content, output.error) == ("It weighs 5 g.", None)
    assert output.raw_result is not None
    assert "It weighs 5 g." in str(output.raw_result)


def test_a_call_that_is_the_answer_stands_in_a_list_whose_functions_are_run(three: Simulator) -> None:
    def answer(request: SimRequest) -> Any:
        called = "Drink" if "Drink" in request.tools else "weigh"
        given = {"name": "tea", "cups": 2} if called == "Drink" else {"what": "tea"}
        return request.results[0][1] if request.results else SimAnswer.tool_calls([(called, given)])

    three.set(answers=answer)
    prompts = [
        prompt_for(OPENAI, form="tool", structured_output=Drink, tools=[weigh]),
        prompt_for(OPENAI, tools=[weigh]),
    ]

    filled, weighed = ParallelAIUtilities(run_tools=True).run_parallel_ai_completion_sync(prompts)

    assert (filled.error, filled.json_object) == (None, {"name": "tea", "cups": 2})
    assert weighed.str_content == "3 g"


def test_a_demanded_call_whose_arguments_do_not_fit_is_repaired(hosted: Side, sim: Simulator) -> None:
    sim.set(
        answers=lambda request: SimAnswer.tool_calls(
            [("Drink", {"name": "tea", "cups": 0 if len(request.messages) == 1 else 3})]
        )
    )

    output = asked(prompt_for(hosted, form="tool", structured_output=Drink))
    never = asked(prompt_for(hosted, form="tool", structured_output=Drink), max_repairs=0)

    assert output.json_object == {"name": "tea", "cups": 3}
    assert "'cups': 3" in str(output.raw_result) or '"cups":3' in str(output.raw_result)
    assert never.error is not None
    assert never.error.startswith("schema: ")
    assert never.tool_calls[0].arguments == {"name": "tea", "cups": 0}


def test_a_call_that_was_demanded_and_not_made_is_a_failure(three: Simulator) -> None:
    three.set(answers=lambda request: "Tea is a drink.")

    output = asked(prompt_for(OPENAI, form="tool", structured_output=Drink))

    assert output.error == "tool_call: A call of 'Drink' was required, and the model made none."
    assert output.str_content == "Tea is a drink."
