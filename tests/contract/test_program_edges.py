"""Resumable programs where they go wrong, or otherwise than their writer meant: ends of blocks, money, notes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import FailureKind
from pllm_notebook.sessions import ErrorResponse, Failed, Present, Session
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.programs import LONG_S, STRATEGIES, counted, restart, session_in
from tests.faults.children import until

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


@pytest.fixture
def directory(cache_dir: Path, tmp_path: Path) -> Path:
    return tmp_path / "session"


# Asking.


def test_a_generator_of_replies_asks_all_before_the_first_is_waited_for(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)

    with session_in(directory, strategy="batch") as session, session.agent("one") as agent:
        session.resolve_all(agent.ask_llm(f"leaf {number}") for number in range(5))
        raise AssertionError("the block ends before this")

    assert (sim.stats().batch_jobs, session.counts()["pending"]) == (1, 5)
    sim.advance(LONG_S)


@pytest.mark.parametrize("strategy", ["async", "batch"])
def test_nothing_is_asked_in_a_session_whose_block_has_ended(
    strategy: str, luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes")
    with session_in(directory, strategy=strategy, wait=True) as session, session.agent("one") as agent:
        reply = agent.ask_llm("one")
        reply.resolve()
    sent = counted(sim)

    with pytest.raises(UsageError, match="The block of this session has ended, so no more calls can be made in it"):
        agent.ask_llm("two")
    with pytest.raises(UsageError, match="The block of this session has ended"), session:
        pass

    assert counted(sim) == sent
    assert (reply.resolve(), len(agent.history)) == ("yes", 1)


# Pauses.


def test_tasks_of_a_group_pause_together(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)

    async def one(agent: Any, word: str) -> str:
        return str(await agent.ask_llm(word))

    async def program() -> Session:
        async with session_in(directory, strategy="batch") as session, session.agent("one") as agent:
            async with asyncio.TaskGroup() as tasks:
                for number in range(3):
                    tasks.create_task(one(agent, f"leaf {number}"))
            raise AssertionError("the block ends before this")
        return session

    session = asyncio.run(program())

    assert session.summary is not None
    assert (session.summary.awaited, sim.stats().batch_jobs) == (3, 1)
    sim.advance(LONG_S)


def test_a_fault_among_tasks_that_pause_is_seen(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)

    async def one(agent: Any, number: int) -> str:
        if number == 1:
            raise ZeroDivisionError
        return str(await agent.ask_llm(f"leaf {number}"))

    async def program() -> None:
        async with session_in(directory, strategy="batch") as session, asyncio.TaskGroup() as tasks:
            for number in range(2):
                tasks.create_task(one(session.agent("one"), number))

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(program())

    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


def test_a_program_that_catches_everything_submits_nothing_twice(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)

    def program() -> Session:
        with session_in(directory, strategy="batch") as session, session.agent("one") as agent:
            for number in range(3):
                try:
                    agent.ask_llm(f"leaf {number}").resolve()
                except:  # noqa: E722
                    continue
        return session

    first = program()
    restart()
    again = program()
    sim.advance(LONG_S)

    assert first.summary is not None
    assert again.summary is not None
    assert counted(sim) == 3


# Failures.


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_failure_of_this_run_is_one_of_retrieve_too(
    strategy: str, luna: str, sim: Simulator, directory: Path, tmp_path: Path
) -> None:
    sim.set(answers=lambda request: SimAnswer.status(400) if "odd" in request.prompt else "yes")

    with session_in(directory, strategy=strategy, errors="coerce", wait=True) as session:
        agent = session.agent("one")
        replies = [agent.ask_llm(word) for word in ("even", "odd")]
        values = session.resolve_all(replies)
        found = [session.retrieve(reply) for reply in replies]
        session.export_all(tmp_path / "calls.jsonl")

    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert values[0] == "yes"
    assert isinstance(values[1], ErrorResponse)
    assert [type(each) for each in found] == [Present, Failed]
    assert [line["state"] for line in lines] == ["present", "failed"]
    assert [replies[1].failed, replies[1].stage] == [True, "failed"]


def test_every_way_to_resolve_a_coerced_failure_raises_it(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: SimAnswer.status(400))

    with session_in(directory, errors="coerce") as session:
        agent = session.agent("one")
        reply = agent.ask_llm("Well?", text_format=int)
        for resolve in (reply.resolve, reply.resolve_json, reply.resolve_parsed, reply.to_assistant_message):
            with pytest.raises(ErrorResponse):
                resolve()
        with pytest.raises(ErrorResponse):
            agent.ask_llm("Look.", reply, "Why?")

    assert reply.failed


def test_what_fails_in_a_job_fails_alone(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: SimAnswer.refusal("No.") if "odd" in request.prompt else "yes")

    def program() -> list[Any]:
        with session_in(directory, strategy="batch", errors="coerce") as session, session.agent("one") as agent:
            return session.resolve_all([agent.ask_llm(word) for word in ("even", "odd", "even still")])
        return []

    assert program() == []
    sim.advance(LONG_S)
    restart()
    values = program()

    assert [values[0], values[2]] == ["yes", "yes"]
    assert values[1].kind is FailureKind.REFUSAL
    assert counted(sim) == 3


def test_jobs_and_failures_of_a_session_are_those_of_its_directory(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: SimAnswer.status(400) if "odd" in request.prompt else "yes", batch_s=LONG_S)

    with session_in(directory, strategy="batch", errors="coerce") as session, session.agent("one") as agent:
        session.resolve_all([agent.ask_llm(word) for word in ("even", "odd")])
    (waiting,) = pllm.jobs(session)
    sim.advance(LONG_S)
    pllm.jobs(directory).fetch()

    until(lambda: len(pllm.errors(session)) > 0, "the failed call")  # the run of the closed session notes it

    assert (waiting.total, len(pllm.jobs())) == (2, 0)
    assert list(pllm.jobs(session).frame["state"]) == ["done"]
    assert list(pllm.errors(session)["kind"]) == ["bad_request"]
    assert len(pllm.errors(directory, kind="timeout")) == 0


@pytest.mark.parametrize("ask", [pllm.jobs, pllm.errors])
def test_looking_makes_no_directory(ask: Any, directory: Path) -> None:
    with pytest.raises(UsageError, match="There is no directory"):
        ask(directory)

    assert not directory.exists()


# Asking anew.


def test_an_answer_that_is_to_be_replaced_is_not_one_yet(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "old", batch_s=LONG_S)
    with session_in(directory) as session:
        session.agent("one").ask_llm("Well?").resolve()

    with session_in(directory, strategy="batch", ignore_cache=True) as session:
        reply = session.agent("one").ask_llm("Well?")
        reply.resolve()

    assert type(reply.retrieve()).__name__ == "Pending"
    sim.advance(LONG_S)


def test_an_answer_that_is_stored_nowhere_is_exported(
    luna: str, sim: Simulator, directory: Path, tmp_path: Path
) -> None:
    sim.set(answers=lambda request: "old")
    with session_in(directory) as session:
        session.agent("one").ask_llm("Well?").resolve()
    sim.set(answers=lambda request: "new")

    with session_in(directory, ignore_cache=True, rewrite_cache=False) as session:
        value = session.agent("one").ask_llm("Well?").resolve()
        session.export_all(tmp_path / "calls.jsonl")

    line = json.loads((tmp_path / "calls.jsonl").read_text())
    assert (value, line["text"]) == ("new", "new")


# Money.


def test_a_ceiling_holds_for_the_whole_session(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes")
    ceiling = 0.0002

    with session_in(directory, errors="coerce", max_cost_usd=ceiling) as session:
        agent = session.agent("one")
        replies = []
        for number in range(500):
            replies.append(agent.ask_llm(f"leaf {number}", max_output_tokens=16))
            if replies[-1].failed:
                break

    assert 1 < len(replies) < 500
    assert replies[-1].error is not None
    assert replies[-1].error.kind is FailureKind.BUDGET
    assert session.cost_usd is not None
    assert session.cost_usd <= ceiling


def test_what_all_answers_cost_is_known_whichever_run_paid(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)

    def program() -> Session:
        with session_in(directory, strategy="batch") as session, session.agent("one") as agent:
            session.resolve_all([agent.ask_llm(f"leaf {number}") for number in range(3)])
        return session

    first = program().total_cost_usd
    sim.advance(LONG_S)
    restart()
    second, third = program(), program()

    assert first == 0
    assert second.total_cost_usd == third.total_cost_usd
    assert second.total_cost_usd
    assert third.cost_usd == 0


# Arguments.


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"log_level": "LOUD"}, "log_level is one of"),
        ({"throttler": 5}, "throttler is a pllm.Throttler"),
        ({"max_cost_usd": -1}, "max_cost_usd is a number of at least 0, not -1"),
        ({"provider": 5}, "provider is a provider's name, not 5"),
        ({"model": 5}, "llm is a model's name .* not 5"),
        ({"wait": "x"}, "wait is True or False, not 'x'"),
    ],
)
def test_a_session_refuses_what_is_no_value_of_its_options(options: dict[str, Any], told: str, directory: Path) -> None:
    with pytest.raises(UsageError, match=told):
        session_in(directory, **options)

    assert not directory.exists()


@pytest.mark.parametrize("named", [None, 5, "", b"session", "a\0b"])
def test_a_directory_is_a_path(named: Any) -> None:
    with pytest.raises(UsageError, match="A session's directory is a path"):
        pllm.resume_directory(named)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"hash_by": 5}, "hash_by is a list of 'llm', 'seq', .* not 5"),
        ({"tag": 5}, "tag is a string, not 5"),
        ({"tools": 5}, "tools is a list of functions"),
    ],
)
def test_a_call_refuses_what_is_no_value_of_its_arguments(
    given: dict[str, Any], told: str, luna: str, sim: Simulator, directory: Path
) -> None:
    with session_in(directory) as session, pytest.raises(UsageError, match=told):
        session.agent("one").ask_llm("Well?", **given)

    assert counted(sim) == 0


# Notes.


def test_sessions_that_go_on_at_once_keep_each_others_notes(luna: str, sim: Simulator, directory: Path) -> None:
    with session_in(directory) as before:
        before.metadata.update(both=0, gone=1)

    with session_in(directory) as one, session_in(directory) as other:
        one.metadata["one"] = 1
        other.metadata["other"] = [2]
        other.metadata["other"].append(3)
        one.agent("judge").metadata["mine"] = 1
        other.agent("judge").metadata["yours"] = 2
        del one.metadata["gone"]

    with session_in(directory) as after:
        assert dict(after.metadata) == {"both": 0, "one": 1, "other": [2, 3]}
        assert dict(after.agent("judge").metadata) == {"mine": 1, "yours": 2}


@pytest.mark.parametrize("value", [2**70, "\ud800", (1, 2), float("nan"), {1: 2}, [b"x"]])
def test_a_note_that_json_has_no_words_for_is_refused_and_not_noted(value: Any, directory: Path) -> None:
    with session_in(directory) as session, pytest.raises(UsageError, match="a note is stored as JSON"):
        session.metadata["note"] = value

    assert dict(session.metadata) == {}
