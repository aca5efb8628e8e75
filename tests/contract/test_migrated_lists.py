"""Scripts that were written for another package's lists of prompts run here with nothing changed but the import."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pllm_notebook import (
    LLMConfig,
    LLMOutput,
    LLMPromptContext,
    OAIApiFromFileConfig,
    ParallelAIUtilities,
    RequestLimits,
    StructuredTool,
    parse_results_file,
    prepare_requests_file,
    process_api_requests_from_file,
)
from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.sides import ANTHROPIC, OPENAI, reach

FORMATS = ["text", "json_beg", "json_object", "structured_output", "tool"]
RIDDLE = {
    "type": "object",
    "properties": {"riddle": {"type": "string"}, "solution": {"type": "string"}},
    "required": ["riddle", "solution"],
    "additionalProperties": False,
}
ANSWER = {"riddle": "What has keys and opens nothing?", "solution": "A piano."}


def answers(request: SimRequest) -> Any:
    if request.tools:
        return SimAnswer.tool_calls([(request.tools[0], ANSWER)])
    asked = f"{request.system}{request.prompt}"
    return json.dumps(ANSWER) if request.schema is not None or "JSON" in asked else f"It is {request.prompt!r}."


@pytest.fixture
def two(sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """OpenAI and Anthropic."""
    for side in (OPENAI, ANTHROPIC):
        reach(side, sim, monkeypatch)
    sim.set(answers=answers)
    return sim


def riddle_tool() -> StructuredTool:
    return StructuredTool(json_schema=RIDDLE, schema_name="tell_riddle", schema_description="Tell a riddle")


def test_a_mixed_list_in_every_format(two: Simulator) -> None:
    async def main() -> list[tuple[LLMPromptContext, LLMOutput]]:
        oai = RequestLimits(max_requests_per_minute=600_000, max_tokens_per_minute=200_000_000)
        anthropic = RequestLimits(
            max_requests_per_minute=600_000, max_tokens_per_minute=40_000_000, provider="anthropic"
        )
        utilities = ParallelAIUtilities(oai_request_limits=oai, anthropic_request_limits=anthropic)
        prompts = [
            LLMPromptContext(
                system_string="You tell riddles.",
                new_message=f"Tell me a riddle about the number {number}.",
                llm_config=LLMConfig(client=client, model=model, response_format=form, max_tokens=250),
                structured_output=riddle_tool(),
            )
            for client, model in (("openai", "gpt-4o-mini"), ("anthropic", "claude-3-haiku-20240307"))
            for form in FORMATS
            for number in range(2)
        ]
        outputs = await utilities.run_parallel_ai_completion(prompts)
        return list(zip(prompts, outputs, strict=True))

    began = time.time()
    told = asyncio.run(main())

    for prompt, output in told:
        assert output.error is None
        if prompt.llm_config.response_format == "text":
            assert not output.contains_object
            assert output.str_content == f"It is {prompt.new_message!r}."
        else:
            assert output.contains_object
            assert output.json_object is not None
            assert output.json_object.object == ANSWER
        usage = output.usage
        assert usage is not None
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
        assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (0, 0)
        assert output.start_time is not None
        assert output.end_time is not None
        assert began - 1 < output.start_time <= output.end_time < time.time() + 1
        assert output.completion_kwargs is not None
        assert output.completion_kwargs["model"] == prompt.llm_config.model
        assert prompt.new_message in json.dumps(output.completion_kwargs["messages"])
    named = [output.json_object.name for prompt, output in told if prompt.llm_config.response_format == "tool"]
    assert named == ["tell_riddle"] * 4


class Caching(BaseModel):
    definition: str
    benefits: list[str]


def test_a_history_that_grows_by_copies(two: Simulator) -> None:
    utilities = ParallelAIUtilities(anthropic_request_limits=RequestLimits(provider="anthropic"))
    base = LLMPromptContext(
        system_string="<file_contents>" + "All about prompt caching. " * 50 + "</file_contents>",
        new_message="What is it?",
        llm_config=LLMConfig(client="anthropic", model="claude-3-5-sonnet-20240620", use_cache=True, max_tokens=1000),
        structured_output=StructuredTool(
            json_schema=Caching.model_json_schema(),
            schema_name="prompt_caching_info",
            schema_description="Generate information about prompt caching",
        ),
    )

    async def turns() -> list[LLMPromptContext]:
        first = await utilities.run_parallel_ai_completion([base])
        second = base.add_chat_turn_history(first[0])
        second.new_message = "How does it help?"
        answer = await utilities.run_parallel_ai_completion([second])
        third = second.add_chat_turn_history(answer[0])
        third.new_message = "What are good practices?"
        await utilities.run_parallel_ai_completion([third])
        return [base, second, third]

    said = asyncio.run(turns())

    assert [len(prompt.history) for prompt in said] == [0, 2, 4]
    assert [prompt.new_message for prompt in said] == ["What is it?", "How does it help?", "What are good practices?"]
    assert said[2].history[3]["content"] == "It is 'How does it help?'."


def test_a_request_file_with_the_words_of_the_cookbook(
    two: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prompts = [
        LLMPromptContext(
            id=f"riddle {number}",
            new_message=f"A riddle about {number}.",
            llm_config=LLMConfig(client="openai", model="gpt-4o-mini", max_tokens=50),
        )
        for number in range(3)
    ]

    requests = prepare_requests_file(prompts)
    status = asyncio.run(
        process_api_requests_from_file(
            api_cfg=OAIApiFromFileConfig(
                requests_filepath=requests,
                save_filepath="results.jsonl",
                api_key="any-key",
                max_requests_per_minute=100_000,
                max_tokens_per_minute=10_000_000,
                token_encoding_name="cl100k_base",
                max_attempts=5,
                logging_level=20,
            )
        )
    )
    outputs = parse_results_file(filepath="results.jsonl")

    assert Path(requests).parent == Path()
    assert prepare_requests_file(prompts) != requests
    assert status.succeeded == 3
    assert [output.source_id for output in outputs] == ["riddle 0", "riddle 1", "riddle 2"]
    assert outputs[2].completion_kwargs is not None
    assert outputs[2].completion_kwargs["messages"][-1]["content"] == "A riddle about 2."


def test_one_argument_by_two_names_is_given_once(tmp_path: Path) -> None:
    config = OAIApiFromFileConfig(requests_filepath="a.jsonl")

    with pytest.raises(UsageError, match="path= and filepath= are names of the same argument"):
        parse_results_file()
    with pytest.raises(UsageError, match="config= and api_cfg= are names of the same argument"):
        asyncio.run(process_api_requests_from_file(config, api_cfg=config))


def test_a_tool_by_its_other_names_is_the_same_tool() -> None:
    tool = StructuredTool(name="tell_riddle", description="Tell a riddle", json_schema=RIDDLE, strict=False)

    assert tool == StructuredTool(
        json_schema=RIDDLE, schema_name="tell_riddle", schema_description="Tell a riddle", strict_schema=False
    )
    assert (tool.schema_name, tool.schema_description, tool.strict_schema) == ("tell_riddle", "Tell a riddle", False)
    assert StructuredTool(json_schema=RIDDLE).name == "generate_structured_output"
    assert StructuredTool(json_schema=RIDDLE | {"title": "Riddle"}).name == "Riddle"
    with pytest.raises(UsageError, match="schema_name and name of a tool are one field"):
        StructuredTool(json_schema=RIDDLE, schema_name="a", name="b")


def test_the_words_before_a_schema_are_the_callers(two: Simulator) -> None:
    tool = StructuredTool(json_schema=RIDDLE, instruction_string="Follow this schema:")
    prompt = LLMPromptContext(new_message="A riddle.", structured_output=tool, use_schema_instruction=True)

    assert prompt.instruction is not None
    assert prompt.instruction.startswith('Follow this schema:\n{"type":"object"')


def test_an_output_survives_json_and_pickle(two: Simulator) -> None:
    prompt = LLMPromptContext(
        new_message="A riddle, in JSON.",
        llm_config=LLMConfig(client="openai", model="gpt-4o-mini", response_format="tool"),
        structured_output=riddle_tool(),
    )
    (output,) = ParallelAIUtilities().run_parallel_ai_completion_sync([prompt])

    for copied in (LLMOutput.model_validate_json(output.model_dump_json()), pickle.loads(pickle.dumps(output))):
        assert copied.json_object == output.json_object == ANSWER
        assert copied.json_object.object == ANSWER
        assert copied.tool_calls[0].args == ANSWER
        assert copied.tool_calls[0].call_id == output.tool_calls[0].id
        assert copied.completion_kwargs is None


def test_without_a_local_cache_nothing_is_kept(two: Simulator) -> None:
    prompt = LLMPromptContext(new_message="Once.", llm_config=LLMConfig(client="openai", model="gpt-4o-mini"))

    for _ in range(2):
        ParallelAIUtilities(local_cache=False).run_parallel_ai_completion_sync([prompt])

    assert two.stats().answered == 2
