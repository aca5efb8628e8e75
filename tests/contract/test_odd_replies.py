"""What a server says that no documentation has: read where it can be, and the failure of its own row where not."""

from __future__ import annotations

import json
import threading
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import words
from tests.contract.sides import ANTHROPIC, GOOGLE, RESPONSES, Side
from tests.contract.test_ends import USAGE, form, reply

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


def good(side: Side, text: str = "yes") -> dict[str, Any]:
    return reply(side, None, text)


def without_usage(side: Side, usage: Any) -> dict[str, Any]:
    return {**good(side), "usageMetadata" if side is GOOGLE else "usage": usage}


def with_content(side: Side, content: Any) -> dict[str, Any]:
    if side is RESPONSES:
        return {"status": "completed", "output": [{"type": "message", "content": content}]}
    if side is ANTHROPIC:
        return {"content": content, "stop_reason": "end_turn"}
    if side is GOOGLE:
        return {"candidates": [{"content": {"parts": content}}]}
    return {"choices": [{"message": {"content": content}}]}


def with_call(side: Side, name: Any, arguments: Any) -> dict[str, Any]:
    if side is RESPONSES:
        call = {"type": "function_call", "call_id": "1", "name": name, "arguments": arguments}
        return {"status": "completed", "output": [call]}
    if side is ANTHROPIC:
        block = {"type": "tool_use", "id": "1", "name": name, "input": arguments}
        return {"content": [block], "stop_reason": "tool_use"}
    if side is GOOGLE:
        return {"candidates": [{"content": {"parts": [{"functionCall": {"name": name, "args": arguments}}]}}]}
    call = {"id": "1", "function": {"name": name, "arguments": arguments}}
    return {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}


def answers(bodies: dict[str, Any], otherwise: Any) -> Any:
    """Answer the rows that are named with a body of their own, and all others alike."""
    return lambda request: SimAnswer.status(200, body=bodies.get(request.prompt, otherwise))


def within(seconds: float, work: Any) -> Any:
    """Do *work*, which must end."""
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert ended, "it hangs"
    return ended[0]


@pytest.mark.parametrize("content", [7, {"a": 1}, True, [7], [{"type": "text", "text": {"a": 1}}]], ids=str)
@pytest.mark.sample(9)
def test_content_of_another_type_is_the_failure_of_its_row_and_of_no_neighbour(
    side: Side, content: Any, sim: Simulator
) -> None:
    sim.set(answers=answers({"b": with_content(side, content)}, good(side)))

    def ask() -> pd.DataFrame:
        return words("a", "b", "c").llm.complete("{text}", model=side.model, max_retries=1)

    out, again = within(30, ask), within(30, ask)

    assert out["answer"].tolist() == ["yes", pd.NA, "yes"]
    assert out.llm.errors[["kind", "attempts"]].to_numpy().tolist() == [["malformed_reply", 2]]
    assert out.llm.errors["raw"].iloc[0]
    assert pd.isna(out.llm.errors["cost_usd"].iloc[0])
    assert again.llm.status.tolist() == ["cached", "failed", "cached"]


@pytest.mark.parametrize("name", [None, 7, "", {"a": 1}], ids=str)
@pytest.mark.sample(7)
def test_a_call_without_a_name_is_the_failure_of_its_row(side: Side, name: Any, sim: Simulator) -> None:
    def look(city: str) -> str:
        """Look."""
        return city

    fine = with_call(side, "look", '{"city": "x"}' if side not in (ANTHROPIC, GOOGLE) else {"city": "x"})
    sim.set(answers=answers({"b": with_call(side, name, {})}, fine))

    out = words("a", "b", "c").llm.call_tools([look], "{text}", model=side.model, max_retries=0)

    assert out.llm.status.tolist() == ["ok", "failed", "ok"]
    assert out.llm.errors["kind"].tolist() == ["malformed_reply"]


ODD_USAGE = {
    "text in place of a number": "12",
    "negative": -1,
    "a fraction": 1.5,
    "true": True,
    "an object": {"n": 1},
    "more than any call has": 10**15,
}


@pytest.mark.parametrize("odd", ODD_USAGE.values(), ids=ODD_USAGE)
@pytest.mark.sample(10)
def test_usage_that_is_no_number_of_tokens_is_unknown_and_never_free(side: Side, odd: Any, sim: Simulator) -> None:
    name = next(iter(USAGE[form(side)]))
    sim.set(answers=answers({}, without_usage(side, {**USAGE[form(side)], name: odd})))

    out = within(30, lambda: words("a", "b").llm.complete("{text}", model=side.model))
    again = within(30, lambda: words("a", "b").llm.complete("{text}", model=side.model))

    assert out["answer"].tolist() == ["yes", "yes"]
    assert out.llm.usage[["input_tokens", "cost_usd"]].isna().all(axis=None)
    assert again.llm.status.tolist() == ["cached", "cached"]


CACHED = {
    "chat": {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1000}},
    "responses": {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 1000}},
    "google": {"promptTokenCount": 10, "candidatesTokenCount": 5, "cachedContentTokenCount": 1000},
    "anthropic": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": -1000},
}


def test_more_cached_tokens_than_tokens_make_no_money(side: Side, sim: Simulator) -> None:
    sim.set(answers=answers({}, without_usage(side, CACHED[form(side)])))

    run = words("a").llm.submit(str, "{text}", model=side.model, max_repairs=0)
    run.result()

    assert run.cost is None or run.cost >= 0


@pytest.mark.parametrize("usage", ["x", [1], {"prompt_tokens_details": "x", "input_tokens_details": 3}, None], ids=str)
@pytest.mark.sample(7)
def test_usage_of_another_form_is_unknown(side: Side, usage: Any, sim: Simulator) -> None:
    usage = {**USAGE[form(side)], **usage} if isinstance(usage, dict) and form(side) in ("chat", "responses") else usage
    sim.set(answers=answers({}, without_usage(side, usage)))

    out = words("a").llm.complete("{text}", model=side.model)

    assert out["answer"].tolist() == ["yes"]
    assert out.llm.usage["cost_usd"].isna().all()


def test_unknown_usage_counts_as_the_whole_reservation(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=answers({}, without_usage(hosted, {"odd": "x"})))
    frame = words(*(f"row {n}" for n in range(200)))

    out = frame.llm.complete("{text}", model=hosted.model, max_cost_usd=0.02, max_output_tokens=1000)

    assert out.llm.errors.empty
    assert set(out.llm.status) == {"ok", "not_sent"}
    assert sim.stats().requests < 200


WRITTEN = {
    "a byte order mark": ("\ufeff{}", "yes"),
    "NaN": ("{}", "yes"),
    "half a character": ("{}", "yes\ufffd"),
}


@pytest.mark.sample(6)
@pytest.mark.parametrize("how", WRITTEN)
def test_an_envelope_that_strict_json_refuses_is_read_once(side: Side, how: str, sim: Simulator) -> None:
    frame, answer = WRITTEN[how]
    body = {**good(side), "odd": float("nan")} if how == "NaN" else good(side, "yes\ud83d" if "half" in how else "yes")
    text = frame.format(json.dumps(body))
    sim.set(answers=lambda request: SimAnswer.status(200, {"content-type": "application/json"}, text))

    out = words("a").llm.complete("{text}", model=side.model)

    assert out["answer"].tolist() == [answer]
    assert sim.stats().requests == 1


THOUGHT = {
    "<think>\nhm {x}\n</think>\n\nyes": "yes",
    "hm\n</think>\n\nyes": "yes",
    "  <think>hm</think>yes": "yes",
    "say <think> and </think> aloud": "say <think> and </think> aloud",
    "<b>yes</b>": "<b>yes</b>",
}


@pytest.mark.parametrize(("text", "answer"), THOUGHT.items(), ids=str)
def test_thinking_that_stands_before_an_answer_is_no_part_of_it(
    compatible: Side, text: str, answer: str, sim: Simulator
) -> None:
    sim.set(answers=lambda request: text)

    out = words("a").llm.complete("{text}", model=compatible.model)

    assert out["answer"].tolist() == [answer]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "<think>and on and on"},
        {"content": None, "reasoning_content": "hm"},
        {"content": "", "reasoning": "hm"},
    ],
    ids=str,
)
def test_thinking_without_an_answer_is_none(compatible: Side, message: dict[str, Any], sim: Simulator) -> None:
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    sim.set(answers=lambda request: SimAnswer.status(200, body=body))

    out = words("a").llm.complete("{text}", model=compatible.model)

    assert out.llm.errors["kind"].tolist() == ["empty"]
    assert "hm" in out.llm.errors["raw"][0] or "and on" in out.llm.errors["raw"][0]


def test_a_choice_that_azure_filtered_has_no_message_and_is_a_filters(compatible: Side, sim: Simulator) -> None:
    body = {"choices": [{"index": 0, "finish_reason": "content_filter", "content_filter_results": {"error": {}}}]}
    sim.set(answers=lambda request: SimAnswer.status(200, body=body))

    out = words("a").llm.complete("{text}", model=compatible.model)

    assert out.llm.errors["kind"].tolist() == ["content_filter"]


def look(city: str) -> str:
    """Look."""
    return city


def test_a_call_in_the_old_form_is_a_call(compatible: Side, sim: Simulator) -> None:
    message = {"content": None, "function_call": {"name": "look", "arguments": '{"city": "x"}'}}
    body = {"choices": [{"message": message, "finish_reason": "function_call"}]}
    sim.set(answers=lambda request: SimAnswer.status(200, body=body))

    out = words("a").llm.call_tools([look], "{text}", model=compatible.model)

    assert out.llm.status.tolist() == ["ok"]
    assert "x" in str(out.iloc[0].tolist())


def test_calls_that_ended_abnormally_are_a_failure_and_not_lost(side: Side, sim: Simulator) -> None:
    body = with_call(side, "look", {"city": "x"})
    where = {"google": ("candidates", "finishReason"), "anthropic": ("", "stop_reason"), "responses": ("", "status")}
    place, field = where.get(form(side), ("choices", "finish_reason"))
    (body[place][0] if place else body)[field] = "SUNSET"
    sim.set(answers=lambda request: SimAnswer.status(200, body=body))

    out = words("a").llm.call_tools([look], "{text}", model=side.model)

    assert out.llm.errors["kind"].tolist() == ["unfinished"]


def test_a_call_that_was_demanded_and_not_made_is_a_failure(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: "no need to")

    out = words("a").llm.call_tools([look], "{text}", model=side.model, tool_choice="required")

    assert out.llm.errors[["kind", "raw"]].to_numpy().tolist() == [["tool_call", "no need to"]]


def test_more_calls_than_are_read_are_a_failure_that_says_so(compatible: Side, sim: Simulator) -> None:
    call = {"id": "1", "function": {"name": "look", "arguments": "{}"}}
    body = {"choices": [{"message": {"tool_calls": [call] * 5000}}]}
    sim.set(answers=lambda request: SimAnswer.status(200, body=body))

    out = words("a").llm.call_tools([look], "{text}", model=compatible.model, max_retries=0)

    assert "5,000 tool calls in one reply, and at most 128 are read" in out.llm.errors["message"][0]


def test_after_any_of_this_the_next_run_is_as_good_as_new(side: Side, sim: Simulator) -> None:
    sim.set(answers=answers({}, with_content(side, {"a": 1})))
    words("a").llm.complete("{text}", model=side.model, max_retries=0)
    sim.set(answers=answers({}, good(side)))

    run = words("a").llm.submit(str, "{text}", model=side.model, max_repairs=0)
    run.cancel()
    within(30, run.done)

    assert within(30, lambda: words("a").llm.complete("{text}", model=side.model))["answer"].tolist() == ["yes"]


class Judged(BaseModel):
    """The mood of a text."""

    mood: Literal["good", "bad"]


@pytest.mark.parametrize("odd", [["good"], {"good": 1}], ids=str)
def test_a_list_where_one_of_a_few_words_belongs_is_repaired(hosted: Side, sim: Simulator, odd: Any) -> None:
    wrong, right = (good(hosted, json.dumps({"mood": mood})) for mood in (odd, "bad"))
    sim.set(answers=lambda request: SimAnswer.status(200, body=wrong if request.prompt == "a" else right))

    out = words("a").llm.parse(Judged, "{text}", model=hosted.model, max_repairs=1)

    assert out["mood"].tolist() == ["bad"]
