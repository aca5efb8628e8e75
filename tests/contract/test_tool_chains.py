"""What can go wrong between a model and its tools, and what is kept of it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Part, build_spec, live_of, options_for, start_list
from pllm_notebook.messages_types import RawRequest
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.tools import StructuredTool
from tests.contract.test_prompt_lists import Listed, submitted

ROW = pd.DataFrame({"text": ["one"]})
ROWS = pd.DataFrame({"text": ["one", "two", "three"]})
WAIT_S = 60.0


class Order(BaseModel):
    """An order."""

    item: str
    count: int


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def adding(request: SimRequest, **arguments: Any) -> Any:
    """Call `add` until it has given something, and then say what."""
    if request.results:
        return request.results[-1][1]
    return SimAnswer.tool_calls([("add", arguments or {"a": 1, "b": 2})])


def failure(out: pd.DataFrame) -> tuple[str, str]:
    """Give kind and message of the one failed row."""
    (record,) = out.llm.errors.to_dict("records")
    return record["kind"], record["message"]


def complete(luna: str, tools: list[Any], frame: pd.DataFrame = ROW, **options: Any) -> pd.DataFrame:
    return frame.llm.complete("{text}", model=luna, tools=tools, **({"run_tools": True} | options))


def test_several_calls_of_one_reply_are_all_run(luna: str, sim: Simulator) -> None:
    calls = [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4}), ("add", {"a": 3, "b": 4})]
    sim.set(answers=lambda request: str(request.results) if request.results else SimAnswer.tool_calls(calls))

    out = complete(luna, [add])

    assert out["answer"].tolist() == ["(('add', '3'), ('add', '7'), ('add', '7'))"]


def test_an_async_function_is_run_like_any_other(luna: str, sim: Simulator) -> None:
    async def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    sim.set(answers=adding)

    assert complete(luna, [add])["answer"].tolist() == ["3"]


def test_the_default_of_a_parameter_is_the_functions_own(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: adding(request, a=1))

    assert complete(luna, [add])["answer"].tolist() == ["2"]


def test_what_a_tool_raises_goes_back_to_the_model_and_into_the_outcome(luna: str, sim: Simulator) -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        raise RuntimeError("no numbers today, said sk-live-abcdefghij1234567890")

    sim.set(answers=adding)

    out = complete(luna, [add])

    told = "RuntimeError: no numbers today, said sk-…"
    assert out["answer"].tolist() == [told]
    assert out.llm.explain(0).steps == (
        'the model called add({"a":1,"b":2})',
        f"add failed: {told}",
        "the model answered",
    )


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("3"), asyncio.CancelledError("3")])
def test_a_tool_that_leaves_the_process_fails_like_any_other(luna: str, sim: Simulator, error: BaseException) -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        raise error

    sim.set(answers=adding)

    assert complete(luna, [add])["answer"].tolist() == [f"{type(error).__name__}: 3"]


def test_arguments_that_do_not_fit_are_asked_for_again(luna: str, sim: Simulator) -> None:
    def answers(request: SimRequest) -> Any:
        arguments = {"item": "tea", "count": 2} if request.results else {"item": "tea", "count": "many"}
        return SimAnswer.tool_calls([("Order", arguments)])

    sim.set(answers=answers)

    out = ROW.llm.call_tools([Order], "{text}", model=luna)

    assert out["arguments"].tolist() == [Order(item="tea", count=2)]
    assert "at count: int_parsing" in out.llm.explain(0).steps[1]
    again = ROW.llm.call_tools([Order], "{text}", model=luna)
    assert again["arguments"].tolist() == [Order(item="tea", count=2)]
    assert sim.stats().requests == 2


def test_a_call_that_fits_is_made_again_beside_the_corrected_one(luna: str, sim: Simulator) -> None:
    seen: list[Any] = []

    def answers(request: SimRequest) -> Any:
        seen.append(request.results)
        second = {"item": "tea", "count": 2} if request.results else {"item": "tea"}
        return SimAnswer.tool_calls([("Order", {"item": "rice", "count": 1}), ("Order", second)])

    sim.set(answers=answers)

    out = ROW.llm.call_tools([Order], "{text}", model=luna, explode=True)

    assert out["arguments"].tolist() == [Order(item="rice", count=1), Order(item="tea", count=2)]
    assert seen[1][0] == ("Order", "This call fits. Make it again, beside the corrected ones.")


@pytest.mark.parametrize("options", [{"run_tools": True}, {}], ids=["run", "given"])
def test_arguments_that_never_fit_are_a_failure_of_kind_schema(luna: str, sim: Simulator, options: Any) -> None:
    sim.set(answers=lambda request: SimAnswer.tool_calls([("add", {"a": "x"})]))

    with pytest.warns(UserWarning, match="1 of 1 rows failed"):
        out = complete(luna, [add]) if options else ROW.llm.call_tools([add], "{text}", model=luna)

    kind, message = failure(out)
    assert kind == "schema"
    assert message.startswith("add: a: Input should be a valid integer")
    assert sim.stats().requests == 2  # max_repairs is 1


def test_a_tool_that_was_not_offered_is_told_so(luna: str, sim: Simulator) -> None:
    def answers(request: SimRequest) -> Any:
        return request.results[0][1] if request.results else SimAnswer.tool_calls([("subtract", {"a": 1})])

    sim.set(answers=answers)

    assert complete(luna, [add])["answer"].tolist() == ["There is no tool of this name. There are: add."]


def test_a_model_that_never_answers_is_stopped_after_max_turns(luna: str, sim: Simulator) -> None:
    ran: list[int] = []

    def add(a: int, b: int) -> int:
        """Add."""
        ran.append(a)
        return a + b

    sim.set(answers=lambda request: SimAnswer.tool_calls([("add", {"a": 1, "b": 2})]))

    with pytest.warns(UserWarning, match="1 of 1 rows failed"):
        out = complete(luna, [add], max_turns=3)

    kind, message = failure(out)
    assert kind == "tool_call"
    assert message.startswith("The model still calls tools (add) in its reply 3, and max_turns=3 replies may go into")
    assert (sim.stats().requests, len(ran)) == (3, 2)


def test_a_chain_goes_on_where_it_was(luna: str, sim: Simulator) -> None:
    ran: list[int] = []

    def add(a: int, b: int) -> int:
        """Add."""
        ran.append(a)
        return a + b

    sim.set(answers=lambda request: SimAnswer.status(500) if request.results else adding(request))
    with pytest.warns(UserWarning, match="1 of 1 rows failed"):
        complete(luna, [add], max_retries=0)
    sim.set(answers=adding)
    before = sim.stats().requests

    out = complete(luna, [add])

    assert out["answer"].tolist() == ["3"]
    assert (len(ran), sim.stats().requests - before) == (1, 1)


def test_calls_that_nobody_runs_are_a_failure_that_says_what_to_do(luna: str, sim: Simulator) -> None:
    sim.set(answers=adding)

    with pytest.warns(UserWarning, match="1 of 1 rows failed"):
        out = complete(luna, [add], run_tools=False)

    kind, message = failure(out)
    assert kind == "tool_call"
    assert "The model called add in place of an answer" in message
    assert out.llm.errors["raw"].tolist() == ['add({"a":1,"b":2})']


@pytest.mark.parametrize(
    ("called", "run_tools", "answered"), [("add", False, True), ("other", True, True), ("add", True, False)]
)
def test_a_whole_answer_beside_a_call_is_taken_unless_the_call_is_to_be_run(
    luna: str, sim: Simulator, called: str, run_tools: bool, answered: bool
) -> None:
    def answer(request: SimRequest) -> Any:
        if request.results:
            return {"item": "sum", "count": 3}
        return SimAnswer.tool_calls([(called, {"a": 1, "b": 2})], content='{"item":"guess","count":0}')

    sim.set(answers=answer)

    out = ROW.llm.parse(Order, "{text}", model=luna, tools=[add], run_tools=run_tools)

    assert out["item"].tolist() == ["guess" if answered else "sum"]
    assert sim.stats().requests == (1 if answered else 2)


def test_a_model_that_must_call_a_tool_may_answer_once_it_has(luna: str, sim: Simulator) -> None:
    choices: list[Any] = []

    def answers(request: SimRequest) -> Any:
        choices.append(request.body.get("tool_choice"))
        return adding(request)

    sim.set(answers=answers)

    complete(luna, [add], tool_choice="required")

    assert choices == ["required", None]


@pytest.mark.parametrize(
    ("tools", "options", "told"),
    [
        ([add, add], {}, "Two tools are named 'add'"),
        ([Order], {}, "there is none behind 'Order'"),
        ([StructuredTool.of(Order)], {}, "there is none behind 'Order'"),
        ([add], {"tool_choice": "ad"}, "Did you mean 'add'?"),
        ([add], {"pack": 4}, r"Rows that share a call \(pack=\) cannot each call tools"),
        ([lambda x: x], {}, "A tool needs a name"),
    ],
)
def test_tools_that_cannot_be_offered_are_refused_before_anything_is_sent(
    luna: str, sim: Simulator, tools: list[Any], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=rf"(?s){told}.*Nothing was sent\.$"):
        complete(luna, tools, **options)

    assert sim.stats().requests == 0


@pytest.mark.parametrize(
    ("tools", "told"), [([], "call_tools needs at least one tool"), (add, "tools is a list of functions")]
)
def test_calls_without_a_list_of_tools_are_refused_before_anything_is_sent(
    luna: str, sim: Simulator, tools: Any, told: str
) -> None:
    with pytest.raises(UsageError, match=rf"{told}.*Nothing was sent\.$"):
        ROW.llm.call_tools(tools, "{text}", model=luna)

    assert sim.stats().requests == 0


def test_tools_of_several_rows_run_at_once(luna: str, sim: Simulator) -> None:
    together = threading.Barrier(3)

    def add(a: int, b: int) -> int:
        """Add."""
        together.wait(WAIT_S)  # passed by all three, or by none
        return a + b

    sim.set(answers=adding)

    assert complete(luna, [add], ROWS)["answer"].tolist() == ["3"] * 3


def test_a_slow_tool_holds_up_its_own_row_alone(luna: str, sim: Simulator) -> None:
    others = threading.Event()

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b if others.wait(WAIT_S) else -1

    sim.set(answers=lambda request: adding(request) if request.prompt == "one" or request.results else request.prompt)

    heard: list[int] = []

    def hear(row: int) -> None:
        heard.append(row)
        if len(heard) == 2:  # while the first one's tool waits
            others.set()

    run = submitted([(luna, text) for text in ("one", "two", "three")], hear, tools=[add], run_tools=True)

    assert run.result() == ["3", "two", "three"]
    assert heard[-1] == 0


def test_stopping_waits_for_no_tool(luna: str, sim: Simulator) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def add(a: int, b: int) -> int:
        """Add."""
        begun.set()
        go_on.wait(WAIT_S)
        ended.set()
        return a + b

    sim.set(answers=adding)
    run = ROW.llm.submit_text("{text}", model=luna, tools=[add], run_tools=True)
    assert begun.wait(WAIT_S)

    run.cancel()
    run.wait()

    assert not ended.is_set()
    assert run.state == "cancelled"
    assert run.to_frame().llm.status.tolist() == ["pending"]
    go_on.set()
    assert run.retry().result()["answer"].tolist() == ["3"]


def test_every_step_is_paid_for_by_its_row_and_under_the_ceiling(luna: str, sim: Simulator) -> None:
    sim.set(answers=adding)

    out = complete(luna, [add], max_cost_usd=1)

    steps = live_of(out.llm.run).table.outcomes[0].replies()
    assert [about["attempts"] for about in steps] == [1, 0, 1]
    assert out.llm.usage["cost_usd"].tolist() == [pytest.approx(out.llm.run.cost)]
    assert out.llm.usage["cost_usd"].iloc[0] > steps[0]["cost_usd"] > 0


def test_looking_only_into_the_cache_runs_nothing(luna: str, sim: Simulator) -> None:
    ran: list[int] = []

    def add(a: int, b: int) -> int:
        """Add."""
        ran.append(a)
        return a + b

    sim.set(answers=adding)
    ROW.llm.call_tools([add], "{text}", model=luna)  # the first reply is in the cache now

    with pytest.warns(UserWarning, match="1 of 1 rows failed"):
        out = complete(luna, [add], cache="only")

    assert failure(out) == ("not_cached", "The result of add is not in the cache, and cache='only' runs nothing.")
    assert ran == []


@pytest.mark.parametrize("options", [{"cache": "off"}, {"mode": "sync"}, {"errors": "raise"}], ids=str)
def test_tools_run_however_the_rows_are_asked(luna: str, sim: Simulator, options: dict[str, Any]) -> None:
    sim.set(answers=adding)

    assert complete(luna, [add], ROWS, **options)["answer"].tolist() == ["3"] * 3


def test_asking_afresh_runs_the_tools_again(luna: str, sim: Simulator) -> None:
    gives = [1]

    def add(a: int, b: int) -> int:
        """Add."""
        return gives[0]

    sim.set(answers=adding)
    complete(luna, [add])
    gives[0] = 2

    kept, fresh = complete(luna, [add]), complete(luna, [add], cache="refresh")

    assert (kept["answer"].tolist(), fresh["answer"].tolist()) == (["1"], ["2"])
    assert complete(luna, [add])["answer"].tolist() == ["2"]


def test_each_of_several_answers_may_use_tools(luna: str, sim: Simulator) -> None:
    sim.set(answers=adding)

    out = complete(luna, [add], ROWS, samples=2)

    assert out["answer"].tolist() == ["3"] * 3
    assert sim.stats().requests == 12


def test_calls_of_a_request_that_its_caller_wrote_are_given_as_they_were_written(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.tool_calls([("anything", {"x": [1]})]))
    function = {"type": "function", "function": {"name": "anything", "parameters": {"type": "object"}}}
    said = [{"role": "user", "content": "go"}]
    body = RawRequest({"model": luna.partition(":")[2], "messages": said, "tools": [function]})
    options = options_for({"model": luna, "progress": False})
    part = Part(build_spec(options, None, instruct=False, calls=True), [0], [body])

    (called,) = start_list([part], Listed([body])).result()

    (call,) = called.calls
    assert (call.name, call.arguments, call.text) == ("anything", {"x": [1]}, '{"x":[1]}')
