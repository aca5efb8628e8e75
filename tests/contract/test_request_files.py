"""A request file is processed whole: every line has one result, nothing is sent twice, and its form is kept."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook import display_registry
from pllm_notebook.engine import engine
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import live_of
from pllm_notebook.request_files.process_file import (
    OAIApiFromFileConfig,
    process_api_requests_from_file,
    process_api_requests_from_file_sync,
)
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.types import Progress
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, reach
from tests.faults.children import until

Files = Callable[..., OAIApiFromFileConfig]


def openai_line(number: int, model: str = OPENAI.name, **also: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": f"prompt {number}"}]}
    return {"custom_id": f"task-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body | also}


def anthropic_line(number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"prompt {number}"}]
    return {"custom_id": f"task-{number}", "params": {"model": ANTHROPIC.name, "max_tokens": 100, "messages": messages}}


def bare_line(number: int, **also: Any) -> dict[str, Any]:
    return {"model": OPENAI.name, "messages": [{"role": "user", "content": f"prompt {number}"}]} | also


@pytest.fixture
def files(sim: Simulator, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """Write a request file, and give what processes it."""
    for side in (OPENAI, ANTHROPIC, GOOGLE):
        reach(side, sim, monkeypatch)
    sim.set(answers=lambda request: request.prompt.upper())

    def make(lines: list[Any], **also: Any) -> OAIApiFromFileConfig:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        requests = tmp_path / "requests.jsonl"
        requests.write_text("".join(text + "\n" for text in texts))
        given = {"requests_filepath": requests, "save_filepath": tmp_path / "results.jsonl", "progress": False}
        return OAIApiFromFileConfig(**(given | also))

    yield make
    logging.getLogger("pllm_notebook").setLevel(logging.NOTSET)


def results(config: OAIApiFromFileConfig) -> list[Any]:
    assert config.save_filepath is not None
    return [json.loads(line) for line in Path(config.save_filepath).read_text().splitlines()]


def test_three_forms_of_lines_in_one_file_each_have_a_result_of_their_form(files: Files, sim: Simulator) -> None:
    config = files([openai_line(0), anthropic_line(1), bare_line(2, metadata={"row": 2}), bare_line(3)])

    status = process_api_requests_from_file_sync(config)

    first, second, third, fourth = results(config)
    assert first["custom_id"] == "task-0"
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "PROMPT 0"
    assert first["error"] is None
    assert second["custom_id"] == "task-1"
    assert second["result"]["type"] == "succeeded"
    assert second["result"]["message"]["content"][0]["text"] == "PROMPT 1"
    request, response, metadata = third
    assert request == bare_line(2)
    assert response["choices"][0]["message"]["content"] == "PROMPT 2"
    assert metadata == {"row": 2}
    assert len(fourth) == 2
    assert (status.total, status.started, status.succeeded, status.failed) == (4, 4, 4, 0)


def test_results_are_in_the_order_of_the_requests_whatever_order_they_came_in(files: Files, sim: Simulator) -> None:
    sim.set(latency_s=0.01, latency_sigma=1.0)
    config = files([openai_line(row) for row in range(40)])

    process_api_requests_from_file_sync(config)

    assert [result["custom_id"] for result in results(config)] == [f"task-{row}" for row in range(40)]


def test_a_line_that_is_no_request_has_an_error_and_costs_no_other_line_its_answer(
    files: Files, sim: Simulator
) -> None:
    lines = [
        openai_line(0),
        "{no json",
        "[1, 2]",
        {"model": "text-embedding-3-small", "input": "text"},
        openai_line(4) | {"url": "/v1/embeddings"},
        {"custom_id": "x", "params": {"model": ANTHROPIC.name, "max_tokens": 10}},
        openai_line(6, stream=True),
        openai_line(7, reasoning="high"),
        {"key": "k", "request": {"contents": [{"parts": [{"text": "prompt 8"}]}]}},
        anthropic_line(9),
    ]
    config = files(lines)

    status = process_api_requests_from_file_sync(config)

    found = results(config)
    assert len(found) == len(lines)
    assert (status.succeeded, status.failed, status.other_errors) == (2, 8, 8)
    assert found[1]["request"] == "{no json"
    assert "not JSON" in found[1]["error"]["message"]
    assert found[3][1][0].startswith("input: ")
    assert "embeddings" in found[3][1][0]
    assert found[5]["result"]["error"]["error"]["type"] == "input"
    assert "names no model" in found[8]["error"]["message"]
    assert found[8]["error"]["message"].endswith("Nothing was sent for this line.")
    assert sim.stats().requests == 2


def test_what_a_provider_refuses_is_the_result_of_its_line(files: Files, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(400) if "3" in request.prompt else request.prompt)
    config = files([openai_line(row) for row in range(6)] + [anthropic_line(13)])

    status = process_api_requests_from_file_sync(config)

    found = results(config)
    assert [result.get("error") is None for result in found[:6]] == [True, True, True, False, True, True]
    assert found[3]["error"]["code"] == "bad_request"
    assert found[6]["result"]["error"]["error"]["type"] == "bad_request"
    assert (status.succeeded, status.failed, status.api_errors) == (5, 2, 2)


def test_a_reply_that_was_cut_off_is_a_response_as_the_provider_gave_it(files: Files, sim: Simulator) -> None:
    sim.set(answers=lambda request: "x" * 400)
    config = files([openai_line(0, max_completion_tokens=5)])

    process_api_requests_from_file_sync(config)

    (found,) = results(config)
    assert found["response"]["body"]["choices"][0]["finish_reason"] == "length"


def test_two_limits_of_output_do_not_share_a_reply_that_one_of_them_cut_off(files: Files, sim: Simulator) -> None:
    sim.set(answers=lambda request: "x" * 400)
    config = files([openai_line(0, max_completion_tokens=limit) for limit in (5, 10_000)])

    process_api_requests_from_file_sync(config)

    ends = [result["response"]["body"]["choices"][0]["finish_reason"] for result in results(config)]
    assert ends == ["length", "stop"]


def test_a_line_that_is_known_is_not_sent_again(files: Files, sim: Simulator) -> None:
    config = files([openai_line(row) for row in range(5)])
    process_api_requests_from_file_sync(config)
    again = config.model_copy(update={"save_filepath": config.requests_filepath + ".again"})

    status = process_api_requests_from_file_sync(again)

    assert (status.succeeded, status.cached) == (5, 5)
    assert sim.stats().requests == 5
    assert [one["response"]["body"] for one in results(again)] == [one["response"]["body"] for one in results(config)]


def test_a_line_shares_its_answer_with_a_row_of_a_frame(files: Files, sim: Simulator) -> None:
    import pandas as pd

    pd.DataFrame({"t": ["prompt 0"]}).llm.complete("{t}", model=OPENAI.model)

    status = process_api_requests_from_file_sync(files([openai_line(0)]))

    assert status.cached == 1
    assert sim.stats().requests == 1


def test_a_file_that_was_cut_off_is_gone_on_with(files: Files, sim: Simulator) -> None:
    lines = [
        openai_line(0),
        openai_line(0),
        bare_line(1, metadata=1),
        bare_line(1, metadata=1),
        "{torn",
        anthropic_line(2),
    ]
    config = files(lines, cache="off")
    process_api_requests_from_file_sync(config)
    path = Path(str(config.save_filepath))
    whole = path.read_bytes()
    for kept in range(len(lines)):
        head = b"".join(whole.splitlines(keepends=True)[:kept])
        # What a killed process had begun to write.
        path.write_bytes(head + whole[len(head) : len(head) + 7])
        before = sim.stats().requests

        status = process_api_requests_from_file_sync(config)

        assert path.read_bytes().count(b"\n") == len(lines)
        assert status.done_before == kept
        assert path.read_bytes().startswith(head)
        assert sim.stats().requests - before <= len(lines) - kept


def test_a_complete_file_is_left_as_it_is(files: Files, sim: Simulator) -> None:
    config = files([openai_line(row) for row in range(5)], cache="off")
    process_api_requests_from_file_sync(config)
    before = Path(str(config.save_filepath)).read_bytes()

    status = process_api_requests_from_file_sync(config)

    assert (status.done_before, status.started) == (5, 0)
    assert Path(str(config.save_filepath)).read_bytes() == before
    assert sim.stats().requests == 5


def test_errors_of_an_earlier_file_are_asked_again_where_that_is_wanted(files: Files, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(500) if "3" in request.prompt else request.prompt)
    config = files([openai_line(row) for row in range(6)], max_attempts=1)
    first = process_api_requests_from_file_sync(config)
    sim.set(answers=lambda request: request.prompt)

    same = process_api_requests_from_file_sync(config)
    second = process_api_requests_from_file_sync(config.model_copy(update={"retry_errors": True}))

    assert (first.failed, first.api_errors, first.failed_before) == (1, 1, 0)
    assert (same.done_before, same.failed_before, same.started) == (6, 1, 0)
    assert second.failed_before == 0
    assert (second.done_before, second.succeeded, second.failed) == (5, 1, 0)
    assert [result["custom_id"] for result in results(config)] == [f"task-{row}" for row in range(6)]
    assert sim.stats().requests == 7


def test_results_of_another_file_are_not_added_to(files: Files, sim: Simulator) -> None:
    config = files([openai_line(row) for row in range(3)])
    process_api_requests_from_file_sync(config)
    config = files([openai_line(row) for row in range(1, 5)])

    with pytest.raises(pllm.PllmError, match=r"has 1 lines that are not results of .*requests.jsonl"):
        process_api_requests_from_file_sync(config)

    assert len(results(config)) == 3
    assert sim.stats().requests == 3


def test_a_refused_key_fails_the_lines_of_its_provider_alone(files: Files, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(401) if request.provider == "anthropic" else request.prompt)
    config = files([openai_line(row) for row in range(20)] + [anthropic_line(row) for row in range(20)])

    status = process_api_requests_from_file_sync(config)

    found = results(config)
    assert (status.succeeded, status.failed, status.api_errors) == (20, 20, 20)
    assert {result["result"]["error"]["error"]["type"] for result in found[20:]} == {"authentication"}


def test_a_key_that_was_refused_is_not_tried_by_later_windows(files: Files, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(401))
    # Lines of one question with two limits are asked in two windows, one after the other.
    config = files([openai_line(0, max_completion_tokens=limit) for limit in (5, 9)])

    status = process_api_requests_from_file_sync(config)

    assert (status.failed, status.api_errors) == (2, 2)
    assert sim.stats().requests == 1


def test_without_any_key_nothing_is_written(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPENAI.key)
    config = files([openai_line(0)])

    with pytest.raises(pllm.PllmError, match="OPENAI_API_KEY"):
        process_api_requests_from_file_sync(config)

    assert results(config) == []


def test_a_key_of_ones_own_is_sent_and_shown_nowhere(files: Files, sim: Simulator) -> None:
    config = files([openai_line(0)], client="openai", api_key="sk-mine-and-nobody-elses")

    process_api_requests_from_file_sync(config)

    assert "nobody-elses" not in repr(config) + config.model_dump_json() + json.dumps(results(config))


def test_an_address_of_ones_own_is_asked_in_place_of_the_provider(files: Files, sim: Simulator) -> None:
    url = sim.base_url("compatible") + "/chat/completions"
    config = files([bare_line(0), openai_line(1, model="small"), anthropic_line(2)], request_url=url)

    status = process_api_requests_from_file_sync(config)

    # The server alone is asked: a line for somebody else would be billed to another account.
    assert (status.succeeded, status.failed) == (2, 1)
    assert [request["provider"] for request in sim.requests(10)] == ["compatible", "compatible"]


@pytest.mark.parametrize("elsewhere", [{"model": ANTHROPIC.model}, {"model": GOOGLE.model}])
def test_a_file_for_a_named_client_bills_no_other_account(
    files: Files, sim: Simulator, elsewhere: dict[str, Any]
) -> None:
    config = files([openai_line(0), bare_line(1, **elsewhere), anthropic_line(2)], client="openai")

    status = process_api_requests_from_file_sync(config)

    assert (status.succeeded, status.failed) == (1, 2)
    assert [request["provider"] for request in sim.requests(10)] == ["openai"]
    assert "only the account of client 'openai' is billed" in results(config)[1][1][0]


def test_a_path_in_a_line_is_text_and_no_file_is_read(files: Files, sim: Simulator, tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes(b"\x89PNG\r\n\x1a\nprivate")
    paths = [str(tmp_path / "private.png"), f"file://{tmp_path}/private.png"]
    parts = [{"type": "image_url", "image_url": {"url": path}} for path in paths]
    shown = [{"role": "user", "content": [{"type": "text", "text": "Look."}, *parts]}]

    process_api_requests_from_file_sync(files([openai_line(0, messages=shown), bare_line(1, messages=shown)]))

    for request in sim.requests(10):
        said = json.dumps(request["body"])
        assert all(path in said for path in paths)
        assert "base64" not in said


def test_responses_are_asked_where_a_line_names_them(files: Files, sim: Simulator) -> None:
    body = {"model": OPENAI.name, "input": [{"role": "user", "content": "prompt 1"}]}
    line = {"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": body}
    config = files([openai_line(0), line])

    process_api_requests_from_file_sync(config)

    chat, response = results(config)
    assert chat["response"]["body"]["object"] == "chat.completion"
    assert response["response"]["body"]["object"] == "response"


def test_googles_lines_are_asked_of_the_model_that_is_given(files: Files, sim: Simulator) -> None:
    line = {"key": "g", "request": {"contents": [{"role": "user", "parts": [{"text": "prompt 0"}]}]}}
    config = files([line, openai_line(1)], model=GOOGLE.model)

    process_api_requests_from_file_sync(config)

    first, second = results(config)
    assert first["response"]["candidates"][0]["content"]["parts"][0]["text"] == "PROMPT 0"
    assert second["response"]["body"]["choices"][0]["message"]["content"] == "PROMPT 1"


def test_what_the_money_does_not_reach_is_for_the_next_time(files: Files, sim: Simulator) -> None:
    sim.set(answers=lambda request: "word " * 90)
    lines = [openai_line(row, max_completion_tokens=100) for row in range(30)]
    free = process_api_requests_from_file_sync(files(lines, cache="off", save_filepath=None))
    assert free.cost_usd is not None
    config = files(lines, max_cost_usd=free.cost_usd / 2)

    with pytest.warns(UserWarning, match=r"not sent: max_cost_usd reached\. Run again to continue\.") as warned:
        first = process_api_requests_from_file_sync(config)
    assert warned[0].filename == __file__
    second = process_api_requests_from_file_sync(config.model_copy(update={"max_cost_usd": None}))

    assert first.cost_usd is not None
    assert 0 < first.cost_usd <= free.cost_usd / 2
    assert first.not_sent > 0
    assert f"; {first.not_sent} not sent; " in str(first)
    assert not first.complete
    assert second.done_before == first.succeeded
    assert [result["custom_id"] for result in results(config)] == [f"task-{row}" for row in range(30)]


def test_new_names_are_those_of_no_other_run(files: Files) -> None:
    config = files([openai_line(0)], save_filepath=None)

    first, second = (process_api_requests_from_file_sync(config) for _ in range(2))

    assert first.save_filepath != second.save_filepath
    assert Path(second.save_filepath).read_bytes().count(b"\n") == 1


def test_two_runs_do_not_write_one_file(files: Files, sim: Simulator) -> None:
    sim.set(latency_s=0.3)
    config = files([openai_line(0)])
    first = config.prepared()
    first.begin()

    with pytest.raises(pllm.PllmError, match="is being written by another run"):
        config.prepared()
    first.wait()

    assert first.result().succeeded == 1


def test_stopping_keeps_what_has_arrived_and_the_next_run_goes_on(files: Files, sim: Simulator) -> None:
    sim.set(latency_s=0.05)
    config = files([openai_line(row) for row in range(400)], max_requests_per_minute=2_000)
    run = config.prepared()
    run.begin()
    until(lambda: run.status().succeeded >= 5, "the first results")

    run.cancel()
    run.wait()

    with pytest.raises(pllm.PllmError, match="The request file was stopped"):
        run.result()
    stopped_at = run.status().succeeded
    assert 5 <= stopped_at < 400
    assert len(results(config)) == stopped_at
    sim.set(latency_s=0.0)
    sim.reset()
    status = process_api_requests_from_file_sync(config.model_copy(update={"max_requests_per_minute": None}))
    assert status.done_before == stopped_at
    assert [result["custom_id"] for result in results(config)] == [f"task-{row}" for row in range(400)]
    assert sim.stats().requests == 400 - stopped_at


def test_cancelling_the_task_that_awaits_it_cancels_it(files: Files, sim: Simulator) -> None:
    sim.set(latency_s=5.0)
    config = files([openai_line(row) for row in range(10)])

    async def main() -> None:
        task = asyncio.create_task(process_api_requests_from_file(config))
        while sim.stats().requests == 0:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert results(config) == []


def test_tools_that_a_line_offers_are_called_in_its_response(files: Files, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.tool_calls([("look_up", {"word": "tea"})]))
    schema = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
    tool = {"type": "function", "function": {"name": "look_up", "parameters": schema}}
    config = files([openai_line(0, tools=[tool])])

    status = process_api_requests_from_file_sync(config)
    (output,) = pllm.parse_results_file(str(config.save_filepath))

    assert status.succeeded == 1
    assert [(call.name, call.arguments) for call in output.tool_calls] == [("look_up", {"word": "tea"})]
    assert output.error is None


def test_outputs_of_a_results_file_are_in_the_order_of_the_requests(files: Files, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(400) if "2" in request.prompt else request.prompt)
    config = files([openai_line(0), anthropic_line(1), anthropic_line(2), bare_line(3), "no json"])
    process_api_requests_from_file_sync(config)

    outputs = pllm.parse_results_file(str(config.save_filepath))

    assert [output.source_id for output in outputs] == ["task-0", "task-1", "task-2", "line_4", "line_5"]
    assert [output.str_content for output in outputs] == ["prompt 0", "prompt 1", None, "prompt 3", None]
    assert [(output.error or "").partition(":")[0] for output in outputs] == ["", "", "bad_request", "", "input"]
    assert [output.result_type for output in outputs] == ["chat", "messages", None, "chat", None]
    assert all(output.usage is not None and output.cost for output in outputs if output.error is None)
    assert [type(output).model_validate_json(output.model_dump_json()) for output in outputs] == outputs


def test_a_file_that_was_cut_off_is_read_in_order_as_far_as_it_goes(files: Files, sim: Simulator) -> None:
    config = files([openai_line(row) for row in range(4)])
    process_api_requests_from_file_sync(config)
    path = Path(str(config.save_filepath))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[2] + lines[0] + lines[1][:20])

    outputs = pllm.parse_results_file(path)

    assert [output.source_id for output in outputs] == ["task-0", "task-2"]


def test_prompts_make_a_file_whose_answers_are_those_of_the_prompts(
    files: Files, sim: Simulator, tmp_path: Path
) -> None:
    prompts = [
        pllm.LLMPromptContext(
            id=f"p{row}",
            system_string="Be brief.",
            new_message=f"prompt {row}",
            llm_config=pllm.LLMConfig(client=side.provider, model=side.name, max_tokens=50),
        )
        for row, side in enumerate([OPENAI, ANTHROPIC, GOOGLE] * 4)
    ]
    path = pllm.prepare_requests_file(prompts, tmp_path / "prepared.jsonl")
    config = OAIApiFromFileConfig(requests_filepath=path, save_filepath=f"{path}.out", progress=False)

    process_api_requests_from_file_sync(config)
    asked = pllm.ParallelAIUtilities(progress=False).run_parallel_ai_completion_sync(prompts)

    outputs = pllm.parse_results_file(f"{path}.out")
    assert [output.source_id for output in outputs] == [prompt.id for prompt in prompts]
    assert [output.str_content for output in outputs] == [output.str_content for output in asked]
    assert sim.stats().requests == len(prompts)


@pytest.mark.parametrize("client", ["openai", "anthropic", "google"])
@pytest.mark.parametrize("form", ["json_object", "json_beg", "structured_output"])
def test_a_file_brings_the_same_text_and_object_as_the_prompts_themselves(
    files: Files, sim: Simulator, tmp_path: Path, client: str, form: Any
) -> None:
    def answer(request: SimRequest) -> str:
        return '{"a": 1}' if request.messages[-1][0] == "user" else '"a": 1}'

    sim.set(answers=answer)
    schema = {"title": "A", "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    config = pllm.LLMConfig(client=client, response_format=form)
    prompts = [pllm.LLMPromptContext(new_message="Tea?", structured_output=schema, llm_config=config)]
    path = pllm.prepare_requests_file(prompts, tmp_path / "prepared.jsonl")

    process_api_requests_from_file_sync(
        OAIApiFromFileConfig(requests_filepath=path, save_filepath=f"{path}.out", progress=False)
    )
    (asked,) = pllm.ParallelAIUtilities(progress=False).run_parallel_ai_completion_sync(prompts)

    (output,) = pllm.parse_results_file(f"{path}.out")
    assert (output.str_content, output.json_object) == (asked.str_content, asked.json_object) == ('{"a": 1}', {"a": 1})


def test_a_prompt_that_is_no_json_is_named_and_nothing_is_written(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The prompt 'a' cannot be written as JSON: .* Nothing was written\."):
        pllm.prepare_requests_file([pllm.LLMPromptContext(id="a", new_message="half \ud800")], tmp_path / "new.jsonl")

    assert os.listdir(tmp_path) == []


def test_a_pipe_or_a_level_that_nobody_knows_is_refused_before_anything_is_sent(files: Files, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError, match=r"pipe is a pipe or a device, and each request is read again"):
        process_api_requests_from_file_sync(files([], requests_filepath=tmp_path / "pipe"))
    with pytest.raises(UsageError, match="Unknown level: 'LOUD'"):
        files([], logging_level="LOUD")


def test_a_prompt_of_another_provider_is_in_no_file_of_one_form(files: Files, tmp_path: Path) -> None:
    prompt = pllm.LLMPromptContext(id="p", new_message="Hi", llm_config=pllm.LLMConfig(client="anthropic"))

    with pytest.raises(pllm.PllmError, match=r"The prompt 'p' is for anthropic:.* Nothing was written\."):
        pllm.prepare_requests_file([prompt], tmp_path / "new.jsonl", form="openai")

    assert not list(tmp_path.glob("new*"))


def test_the_cookbooks_lines_and_endpoint_are_taken_as_they_are(files: Files, sim: Simulator) -> None:
    lines = [bare_line(row, temperature=1.0, metadata={"row_id": row}) for row in range(3)]
    url = "https://api.openai.com/v1/chat/completions"
    config = files(
        lines,
        request_url=url,
        api_key="sk-of-the-cookbook",
        max_requests_per_minute=3_000 * 0.5,
        max_tokens_per_minute=250_000 * 0.5,
        max_attempts=5,
        logging_level=20,
    )

    status = asyncio.run(process_api_requests_from_file(config))

    found = results(config)
    assert [request for request, _, _ in found] == [bare_line(row, temperature=1.0) for row in range(3)]
    assert [body["choices"][0]["message"]["content"] for _, body, _ in found] == [f"PROMPT {row}" for row in range(3)]
    assert [metadata for _, _, metadata in found] == [{"row_id": row} for row in range(3)]
    assert status.succeeded == 3


def test_an_empty_file_is_complete(files: Files, sim: Simulator) -> None:
    config = files([])

    status = process_api_requests_from_file_sync(config)

    assert (status.total, status.complete) == (0, True)
    assert results(config) == []


def test_one_progress_display_stands_for_the_whole_file(files: Files, sim: Simulator) -> None:
    shown: list[Progress] = []

    class Shown:
        stays = False

        def open(self, progress: Progress, cancel: Any) -> None:
            shown.append(progress)

        def update(self, progress: Progress) -> None:
            shown.append(progress)
            if progress.in_flight == 6:
                all_shown.set()

        def close(self, progress: Progress, retry: Any) -> None:
            shown.append(progress)

    all_shown = threading.Event()

    def answer(request: SimRequest) -> str:
        all_shown.wait(60)
        return request.prompt

    sim.set(answers=answer)
    config = files([openai_line(row) for row in range(5)] + [anthropic_line(5), "no json"], progress=True)
    display_registry.register_display(Shown)
    try:
        process_api_requests_from_file_sync(config)
    finally:
        display_registry.register_display(None)

    first, last = shown[0], shown[-1]
    assert (first.total, first.done, first.state) == (7, 0, "running")
    assert (last.total, last.done, last.failed, last.pending, last.state) == (7, 6, 1, 0, "done")
    assert last.model == f"{OPENAI.model}, {ANTHROPIC.model}"
    assert any(one.in_flight == 6 for one in shown)
    assert not [run for run in pllm.runs() if live_of(run).rows.label == "requests.jsonl"]


def test_rates_hold_for_all_models_of_a_provider_together(files: Files, sim: Simulator) -> None:
    moments: list[float] = []

    def answer(request: SimRequest) -> str:
        moments.append(time.monotonic())
        return request.prompt

    sim.set(answers=answer)
    lines = [openai_line(row, model=model) for row in range(15) for model in (OPENAI.name, "gpt-6-astra")]
    config = files(lines, max_requests_per_minute=600)

    began = time.monotonic()
    process_api_requests_from_file_sync(config)

    # A second's worth goes at once. From before the first: on a busy machine that one may be late.
    assert moments[-1] - began >= 0.9 * (30 - 10) / 10


def test_a_loop_that_died_ends_it_and_the_next_run_goes_on(files: Files, sim: Simulator) -> None:
    sim.set(latency_s=60.0)
    config = files([openai_line(row) for row in range(10)])
    run = config.prepared()
    run.begin()
    until(lambda: sim.stats().requests > 0, "the first request")
    loop = engine().loop
    loop.loop.call_soon_threadsafe(loop.loop.stop)

    with pytest.raises(pllm.PllmError, match="shut down"):  # noqa: PT012  # whoever notices it first
        run.wait()
        run.result()
    until(lambda: run.done, "its end")
    sim.set(latency_s=0.0)
    status = process_api_requests_from_file_sync(config)

    assert status.complete
    assert [result["custom_id"] for result in results(config)] == [f"task-{row}" for row in range(10)]
