"""Programs that raise, or whose calls end with an exception: nothing is paid for twice, hangs or is passed over."""

from __future__ import annotations

import asyncio
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pllm_notebook.exceptions import UsageError
from pllm_notebook.sessions import Session
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.programs import STRATEGIES, counted, restart, session_in

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


@pytest.fixture
def directory(cache_dir: Path, tmp_path: Path) -> Path:
    return tmp_path / "session"


# Asking anew.


def test_a_program_that_ignores_the_cache_and_raises_pays_for_no_answer_twice(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes")

    def raising() -> None:
        with session_in(directory, ignore_cache=True) as session:
            session.agent("one").ask_llm("Well?").resolve()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        raising()
    restart()
    with session_in(directory, ignore_cache=True) as session:
        again = session.agent("one").ask_llm("Well?").stage
    restart()
    with session_in(directory, ignore_cache=True) as session:
        session.agent("one").ask_llm("Well?").resolve()

    assert again == "cached"
    assert counted(sim) == 2  # the program had finished before the third run


def test_a_program_that_ignores_the_cache_and_is_killed_pays_for_no_answer_twice(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes")
    session = session_in(directory, ignore_cache=True)
    session.agent("one").ask_llm("Well?").resolve()  # the block never ends
    restart()

    with session_in(directory, ignore_cache=True) as again:
        stage = again.agent("one").ask_llm("Well?").stage

    assert (stage, counted(sim)) == ("cached", 1)


# Unpickled replies.


def revived_in(directory: Path) -> bytes:
    """Pickle a reply that was never sent."""
    with session_in(directory, dry_run=True) as session:
        return pickle.dumps(session.agent("one").ask_llm("Well?"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_unpickled_reply_that_was_never_sent_is_sent_when_it_is_read(
    strategy: str, luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes")
    packed = revived_in(directory)

    with session_in(directory, strategy=strategy, wait=True) as session:
        revived = pickle.loads(packed)
        assert (revived.stage, counted(sim)) == ("asked", 0)
        assert revived.resolve() == "yes"

    assert (session.is_open, counted(sim)) == (False, 1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_unpickled_reply_that_was_never_sent_is_sent_when_it_is_awaited(
    strategy: str, luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes")
    packed = revived_in(directory)

    async def program() -> str:
        async with session_in(directory, strategy=strategy, wait=True):
            return await pickle.loads(packed)
        raise AssertionError("the block does not pause")

    assert asyncio.run(program()) == "yes"


def test_an_unpickled_reply_of_an_ended_block_is_not_waited_for(luna: str, sim: Simulator, directory: Path) -> None:
    packed = revived_in(directory)
    with session_in(directory):
        revived = pickle.loads(packed)

    async def program() -> str:
        return await revived

    with pytest.raises(UsageError, match=r"The answer is not in .*session \(absent\)"):
        asyncio.run(program())
    assert counted(sim) == 0


# Runs that end with an exception.


def broken(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the session's disk fail when a run starts."""

    def fail(*args: Any, **options: Any) -> None:
        raise OSError("disk")

    monkeypatch.setattr(session._sender, "_start", fail)


def test_a_call_whose_run_ended_with_an_exception_is_reported_if_it_is_never_read(
    luna: str,
    sim: Simulator,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "pllm_notebook"), session_in(directory) as session:
        broken(session, monkeypatch)
        session.agent("one").ask_llm("Well?")

    assert caplog.messages == ["1 failed calls were never read by the program; the first: disk"]


@pytest.mark.parametrize("told", [False, True])
def test_a_call_whose_run_ended_with_an_exception_is_sent_again_when_asked(
    told: bool,
    luna: str,
    sim: Simulator,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sim.set(answers=lambda request: "yes")
    with caplog.at_level(logging.WARNING, "pllm_notebook"), session_in(directory) as session:
        agent = session.agent("one")
        with monkeypatch.context() as patch:
            broken(session, patch)
            reply = agent.ask_llm("Well?")
            with pytest.raises(OSError, match="disk"):
                reply.resolve()

        if told:
            session.retry_failed()
        else:
            reply = agent.ask_llm("Well?")

        assert reply.resolve() == "yes"
    assert (counted(sim), caplog.messages) == (1, [])


# Ended blocks.


def test_nothing_is_sent_again_in_a_session_whose_block_has_ended(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: SimAnswer.refusal("No."))
    with session_in(directory, errors="coerce") as session:
        assert session.agent("one").ask_llm("Well?").failed
    sent = counted(sim)

    with pytest.raises(UsageError, match="The block of this session has ended"):
        session.retry_failed()

    assert counted(sim) == sent


def test_nothing_collected_is_sent_by_a_barrier_after_the_block(luna: str, sim: Simulator, directory: Path) -> None:
    session = session_in(directory, strategy="batch")

    def raising() -> None:
        with session:
            session.agent("one").ask_llm("Well?")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        raising()
    with pytest.raises(UsageError, match="The block of this session has ended"):
        session.barrier()

    assert counted(sim) == 0


# Threads.


def test_a_failed_call_is_reopened_and_submitted_in_one_step(
    luna: str, sim: Simulator, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.set(answers=lambda request: SimAnswer.status(401))
    with session_in(directory, errors="coerce") as session:
        agent = session.agent("one")
        failed = agent.ask_llm("Well?")
        assert failed.failed
        sent = counted(sim)
        sim.set(answers=lambda request: "yes")
        call = failed.session_call
        assert call is not None
        alone, reopen = [], call.reopen

        def reopened() -> None:
            alone.append(session._lock.locked())  # no other thread can send it between the look and the reopening
            reopen()

        monkeypatch.setattr(call, "reopen", reopened)
        with ThreadPoolExecutor(2) as threads:
            replies = list(threads.map(agent.ask_llm, ["Well?", "Well?"]))

        assert [reply.resolve() for reply in replies] == ["yes", "yes"]
    assert (alone, counted(sim)) == ([True], sent + 1)
