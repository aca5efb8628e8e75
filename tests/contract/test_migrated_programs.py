"""Programs that were written for another package run here with nothing changed but the import."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.programs import restart
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, reach


@pytest.fixture
def three(sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Three providers that say who they are and what they were asked last."""
    for side in (OPENAI, ANTHROPIC, GOOGLE):
        reach(side, sim, monkeypatch)
    sim.set(answers=lambda request: f"{request.model}: {request.prompt}")
    return sim


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / ".pllm" / "simplest"


def test_the_simplest_program(three: Simulator, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pllm.resume_directory(
        place,
        provider="openai",
        strategy="sync",
        dashboard=False,
        log_level=logging.INFO,
        hash_by=["llm"],
        llm="gpt-4o-mini",
    ) as orch:
        with orch.agent() as agt:
            resp = agt.ask_llm("Please name a power of 3.", instructions="No explanations.", save_input=True)
            agt.print(resp.final_answer)

        assert isinstance(orch, pllm.AgentOrchestrator)
        assert isinstance(agt, pllm.AgentContext)
        assert isinstance(resp, pllm.LLMResponse)
        assert (agt.name, orch.agent(7).name) == ("default-agent", "7")
    assert capsys.readouterr().out == "gpt-4o-mini: Please name a power of 3.\n"


def syllables(agt: pllm.AgentContext, word: str) -> str:
    return agt.ask_llm(f'How many syllables are in "{word}"?').final_answer


def test_an_agent_is_a_function(three: Simulator, place: Path) -> None:
    with pllm.resume_directory(place, llm="gpt-5-nano", strategy="sync") as orch, orch.agent() as agt:
        assert syllables(agt, "Hello") == 'gpt-5-nano: How many syllables are in "Hello"?'


def test_several_models_in_one_program(three: Simulator, place: Path) -> None:
    identities: list[Any] = [
        "openai/gpt-4o-mini",
        "claude-haiku-5-5",
        pllm.LLMIdentity("gpt-4o", provider="openai"),
        pllm.LLMIdentity("alex", "google", "gemini-3.8-flash"),
    ]
    with pllm.resume_directory(place, provider="multi", strategy="concurrent") as orch, orch.agent("a") as agt:
        replies: list[pllm.LLMResponse] = [agt.ask_llm("Who?", llm=llm, hash_by=["llm"]) for llm in identities]
        told = orch.resolve_all(replies)

    assert told == ["gpt-4o-mini: Who?", "claude-haiku-5-5: Who?", "gpt-4o: Who?", "gemini-3.8-flash: Who?"]


def test_keywords_of_the_provider_reach_it(three: Simulator, place: Path) -> None:
    three.set(answers=lambda request: str(request.body.get("top_p") or request.body.get("reasoning_effort")))
    with pllm.resume_directory(place, strategy="sync") as orch, orch.agent() as agt:
        one = agt.ask_llm("Well?", llm="gpt-4o-mini", top_p=0.5, max_tokens=100)
        two = agt.ask_llm("Well?", llm="gpt-6-luna", reasoning={"effort": "low"})

        assert (one.resolve(), two.resolve()) == ("0.5", "low")
        assert one.call.params == {"max_output_tokens": 100, "extra_body": {"top_p": 0.5}}


class Power(BaseModel):
    final_answer: str


@pytest.mark.parametrize("word", ["structured_output", "text_format", "response_format"])
def test_an_answer_of_a_type(word: str, three: Simulator, place: Path) -> None:
    three.set(answers=lambda request: SimAnswer.value({"final_answer": "27"}))
    with pllm.resume_directory(place, provider="anthropic", strategy="sync") as orch, orch.agent() as agt:
        resp = agt.ask_llm("Please name a power of 3.", **{word: Power})

        assert resp.final_json == {"final_answer": "27"}
        assert resp.resolve_parsed() == Power(final_answer="27")
        with pytest.raises(UsageError, match="are the same argument"):
            agt.ask_llm("And?", structured_output=Power, text_format=Power)


def multiply(a: int, b: int) -> int:
    """Calculate a times b."""
    return a * b


def add(a: int, b: int) -> int:
    """Calculate a plus b."""
    return a + b


def calculated(request: SimRequest) -> Any:
    if request.results:
        return f"3 + 4 = {request.results[0][1]}"
    return SimAnswer.tool_calls([("add", {"a": 3, "b": 4})])


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
def test_tools_that_the_program_runs(provider: str, three: Simulator, place: Path) -> None:
    three.set(answers=calculated)
    with pllm.resume_directory(place, provider=provider, strategy="sync") as orch, orch.agent() as agt:
        convo = agt.get_msg_state()
        resp = convo.ask_llm("Add 3 and 4.", tools=pllm.to_tool_schema([multiply, add]))
        (call,) = resp.resolve_function_calls()
        outputs = convo.ask_functions(multiply=multiply, add=add)
        convo.ask_llm(tools=[multiply, add])

        assert isinstance(call, pllm.FunctionCall)
        assert (call.name, call.args, call.call_id) == ("add", {"a": 3, "b": 4}, call.id)
        assert outputs == [pllm.FunctionCallOutput(content="7", name="add", call_id=call.call_id)]
        # Google has each output in an object.
        assert convo.resolve()[-1] == convo[-1].final_answer
        assert convo[-1].final_answer in ("3 + 4 = 7", '3 + 4 = {"output":"7"}')


def test_tools_by_hand(three: Simulator, place: Path) -> None:
    three.set(answers=calculated)
    with pllm.resume_directory(place, provider="openai", strategy="sync") as orch, orch.agent() as agt:
        asked = agt.ask_llm("Add 3 and 4.", tools=[add])
        by_hand = [
            pllm.ToolCallOutput(call_id=call.call_id, name=call.name, content=str(add(**call.args)))
            for call in asked.function_calls
        ]
        final = agt.ask_llm(["Add 3 and 4.", asked, *by_hand])

        assert by_hand == agt.ask_functions(asked, add=add)
        assert final.final_answer == "3 + 4 = 7"
        assert final.function_calls == []
        with pytest.raises(UsageError, match="function 'add', which was not given"):
            agt.ask_functions(asked, multiply=multiply)
        (told,) = agt.ask_functions(asked, {"multiply": multiply}, if_func_not_exist="There is none.")
        assert (told.content, told.failed) == ("There is none.", True)
        with pytest.raises(LookupError):
            agt.ask_functions(asked, if_func_not_exist=LookupError("add"))


@pytest.mark.parametrize("strategy", ["sync", "async"])
def test_a_conversation_grows_with_each_question(strategy: Any, three: Simulator, place: Path) -> None:
    three.set(answers=lambda request: f"{len(request.messages)} turns")
    with pllm.resume_directory(place, provider="openai", strategy=strategy) as orch, orch.agent() as agt:
        conv = agt.get_msg_state()
        conv.ask_llm("Please name an animal in 1 word.")
        conv.ask_llm(f"Write a haiku about {conv[-1].final_answer}(s).")

        assert agt.get_msg_state() is conv
        assert conv.resolve() == [
            "Please name an animal in 1 word.",
            "1 turns",
            "Write a haiku about 1 turns(s).",
            "3 turns",
        ]


def test_a_conversation_goes_on_in_the_next_run(three: Simulator, place: Path) -> None:
    def run(said: str) -> list[str]:
        with pllm.resume_directory(place, provider="openai", strategy="sync") as orch, orch.agent() as agt:
            msgs = agt.get_msg_state(persist=True)
            msgs.append(said)
            msgs.ask_llm()
            told = msgs.resolve()
        restart()
        return told

    three.set(answers=lambda request: f"{len(request.messages)} turns")

    assert [run("one"), run("two")] == [["one", "1 turns"], ["one", "1 turns", "two", "3 turns"]]
    with pllm.resume_directory(place, provider="openai") as orch, orch.agent() as agt:
        assert agt.get_msg_state().resolve() == []
        assert len(agt.get_msg_state(persist=True)) == 4


def test_a_tournament_whose_state_outlives_the_program(three: Simulator, place: Path) -> None:
    def answer(request: SimRequest) -> str:
        if "contestants" in request.prompt:
            return "Contest participants:\n```\nAlice\nBob\nCharlie\nDiana\n```"
        return next(name for name in ("Alice", "Diana", "Bob", "Charlie") if name in request.prompt)

    three.set(answers=answer)
    orch = pllm.resume_directory(place, provider="openai", strategy="sync")
    agent = orch.agent()
    with agent:
        named = agent.ask_llm("Get 4 contestants for the tournament").resolve()
        orch.save_userdata("contestants", named.split("```")[1].split("\n")[1:5])
    with agent:
        names = orch.load_userdata("contestants")
        winners = [
            agent.ask_llm(f"Who wins: {one} vs {other}?").resolve()
            for one, other in zip(names[::2], names[1::2], strict=True)
        ]
        orch.save_userdata("rounds/semifinal", winners)
    orch.persist()
    restart()

    again = pllm.resume_directory(place, provider="openai", strategy="async")
    with again.agent() as agent:
        finalists = again.load_userdata("rounds/semifinal")
        winner = agent.ask_llm("Who wins: {} vs {}?".format(*finalists)).resolve()
        again.save_userdata("winner", winner)

    assert again.userdata["winner"] == "Alice"
    assert three.stats().answered == 4
    with pytest.raises(UsageError, match=r"There is no note 'winer'. Did you mean 'winner'"):
        again.load_userdata("winer")


def test_sessions_of_a_directory_are_counted(three: Simulator, place: Path) -> None:
    counters = []
    for strategy in ("sync", "async", "sync"):
        with pllm.resume_directory(place, provider="openai", strategy=strategy) as orch:  # type: ignore[arg-type]
            counters.append(orch.get_session_counter())
    one, other = (pllm.resume_directory(place, provider="openai") for _ in range(2))

    assert counters == [1, 2, 3]
    assert (one.session_counter, other.session_counter) == (4, 5)
    one.persist()
    assert pllm.resume_directory(place, provider="openai").session_counter == 6


def test_the_output_of_a_call_has_one_id() -> None:
    assert pllm.ToolCallOutput(call_id="c", content="2 g") == pllm.ToolCallOutput("c", content="2 g")
    assert pllm.ToolCallOutput("c", call_id="c").call_id == "c"
    with pytest.raises(UsageError, match=r"id='2 g' and call_id='c', which are two names for the call's id.*content="):
        pllm.ToolCallOutput("2 g", call_id="c")


def test_a_ready_value_stands_where_a_reply_would(three: Simulator, place: Path) -> None:
    three.set(answers=lambda request: " | ".join(text for _, text in request.messages))
    ready = pllm.LLMResponse('{"animal": "lion"}')

    with pllm.resume_directory(place, provider="openai", strategy="sync") as orch, orch.agent() as agt:
        told = agt.ask_llm("Name an animal.", ready, "Another one.").resolve()
        asked = agt.ask_llm("x")

        assert told == 'Name an animal. | {"animal": "lion"} | Another one.'
        assert orch.resolve_all([ready, asked]) == ['{"animal": "lion"}', "x"]
    assert (ready.final_answer, ready.final_json) == (ready.resolve(), {"animal": "lion"})
    assert (ready.failed, ready.error, ready.function_calls, str(ready)) == (False, None, [], '{"animal": "lion"}')
    assert pllm.LLMResponse("no JSON").final_json is None


@pytest.mark.parametrize("strategy", ["async", "hybrid"])
@pytest.mark.parametrize(
    "ceiling",
    [{"max_concurrent": 2}, {"tweaks": pllm.MinorTweaks(async_max_concurrent=2)}, {"tweaks": {"max_concurrent": 2}}],
    ids=["argument", "tweak", "plain"],
)
def test_a_session_has_no_more_calls_in_flight_than_it_may(
    ceiling: dict[str, Any], strategy: Any, three: Simulator, place: Path
) -> None:
    together = threading.Barrier(2)  # each call is answered when two are there

    def answer(request: SimRequest) -> SimAnswer:
        together.wait(60)
        return SimAnswer.text("yes", latency_s=0.02)

    three.set(answers=answer)
    models = ["gpt-4o-mini", "claude-haiku-5-5", "gemini-3.8-flash"]
    with pllm.resume_directory(place, strategy=strategy, **ceiling) as orch, orch.agent() as agt:
        replies = [agt.ask_llm(f"{at}?", llm=model) for at in range(4) for model in models]
        assert orch.resolve_all(replies) == ["yes"] * 12

    assert three.stats().answered == 12
    assert three.stats().peak_in_flight == 2


def test_what_is_no_tweak_is_refused(place: Path) -> None:
    with pytest.raises(UnknownOptionError, match=r"no option 'max_concurent'. Did you mean 'max_concurrent'"):
        pllm.resume_directory(place, tweaks={"max_concurent": 2})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(UsageError, match="the tweak 'max_concurrent' differ"):
        pllm.resume_directory(place, max_concurrent=3, tweaks={"max_concurrent": 2})
    with pytest.raises(UsageError, match="max_concurrent is a whole number"):
        pllm.resume_directory(place, max_concurrent=0)
    with pytest.raises(UsageError, match="documents are always kept"):
        pllm.resume_directory(place, save_input=False)
    with pytest.raises(UsageError, match="model and llm are the same argument"):
        pllm.resume_directory(place, model="gpt-4o", llm="gpt-4o")
    with pytest.raises(UsageError, match="an LLMIdentity, not ''"):
        pllm.resume_directory(place, model="")


def test_errors_may_be_logged_and_passed_over(three: Simulator, place: Path) -> None:
    three.set(answers=lambda request: SimAnswer.refusal("No."))
    with (
        pllm.resume_directory(
            place, provider="openai", strategy="sync", tweaks={"error_mode": "emit", "batch_user_confirmation": False}
        ) as orch,
        orch.agent() as agt,
    ):
        assert agt.ask_llm("Well?").failed
        assert orch.config.confirm is False


@pytest.mark.parametrize("throttler", [pllm.Throttler(), pllm.Throttler(4)], ids=["none", "four"])
def test_a_throttler_needs_no_arguments(throttler: pllm.Throttler, three: Simulator, place: Path) -> None:
    with pllm.resume_directory(place, provider="openai", throttler=throttler) as orch, orch.agent() as agt:
        assert len(orch.resolve_all([agt.ask_llm(f"{at}?") for at in range(4)])) == 4

    assert throttler.window_seconds == 60.0
