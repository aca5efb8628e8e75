"""Resumable programs, under every strategy, through every provider's real SDK."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import NotConfirmedError, UnknownOptionError, UsageError
from pllm_notebook.failures import FailureKind
from pllm_notebook.sessions import ErrorResponse, LazyReply, LLMIdentity, Session
from pllm_notebook.sessions.session_store import Absent, Pending, Present
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.programs import CALLS, LONG_S, WINNER, restart, tournament, tournament_answers
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, Side, reach

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

THREE = pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE], ids=lambda side: side.id)
STRATEGIES = ("sync", "async", "batch", "hybrid")


@pytest.fixture
def directory(cache_dir: Path, tmp_path: Path) -> Path:
    """Where a session keeps what it knows."""
    return tmp_path / "session"


@pytest.fixture
def reached(side: Side, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    """One of three providers."""
    reach(side, sim, monkeypatch)
    return side


def session_in(directory: Path, **options: Any) -> Session:
    return pllm.resume_directory(directory, **({"model": OPENAI.model, "confirm": False} | options))


def counted(sim: Simulator) -> int:
    """Calls that were paid for, live and by batch."""
    stats = sim.stats()
    return stats.requests + stats.batch_lines


# The tournament.


@THREE
@pytest.mark.parametrize("strategy", ["sync", "async", "hybrid"])
def test_the_tournament_has_its_winner_and_pays_for_each_call_once(
    strategy: str, reached: Side, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=tournament_answers)

    first, session = tournament(directory, strategy=strategy, model=reached.model)
    restart()
    second, again = tournament(directory, strategy=strategy, model=reached.model)

    assert (first, second) == (WINNER, WINNER)
    assert (session.counts()["stored"], again.counts()["cached"]) == (CALLS, CALLS)
    assert counted(sim) == CALLS


@THREE
def test_the_tournament_by_batch_goes_on_by_one_frontier_a_run_and_a_restart_changes_nothing(
    reached: Side, sim: Simulator, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sim.set(answers=tournament_answers, batch_s=LONG_S)
    seen = []

    for _ in range(5):
        winner, session = tournament(directory, strategy="batch", model=reached.model)
        seen.append((winner, sim.stats().batch_jobs, session.summary is not None and session.summary.submitted))
        restart()
        sim.advance(LONG_S)

    assert seen == [(None, 1, 1), (None, 2, 4), (None, 3, 2), (None, 4, 1), (WINNER, 4, False)]
    assert (sim.stats().requests, sim.stats().batch_lines) == (0, CALLS)
    told = capsys.readouterr().out
    assert "submitted 4 calls in 1 batch job (" in told
    assert "Run the program again to continue." in told


def test_one_program_may_go_on_under_another_strategy(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=tournament_answers, batch_s=LONG_S)
    tournament(directory, strategy="batch", model=luna)
    sim.advance(LONG_S)
    tournament(directory, strategy="batch", model=luna)
    sim.advance(LONG_S)

    winner, _ = tournament(directory, strategy="async", model=luna)

    assert winner == WINNER
    assert counted(sim) == CALLS
    assert sim.stats().requests == 3


def test_what_waits_in_a_job_is_not_paid_for_live(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=tournament_answers, batch_s=LONG_S)
    tournament(directory, strategy="batch", model=luna)

    for strategy in ("sync", "async", "hybrid"):
        winner, session = tournament(directory, strategy=strategy, model=luna)

        assert winner is None
        assert session.summary is not None
        assert (session.summary.submitted, session.summary.awaited) == (0, 1)
    assert sim.stats().requests == 0


def test_what_is_on_the_wire_is_stored_before_a_block_pauses(luna: str, sim: Simulator, directory: Path) -> None:
    # Longer than it takes to find that the job goes on.
    sim.set(answers=lambda request: "yes", batch_s=LONG_S, latency_s=2)
    with session_in(directory, strategy="batch") as session:
        session.agent("one").ask_llm("by batch")

    with session_in(directory) as session, session.agent("one") as agent:
        live = agent.ask_llm("live")
        agent.ask_llm("by batch").resolve()
        raise AssertionError("the block ends before this")

    assert live.stage == "stored"
    assert session.summary is not None


def test_a_batch_that_is_waited_for_goes_to_its_end_in_one_run(
    luna: str, sim: Simulator, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pllm_notebook.batch_jobs import service

    monkeypatch.setattr(service, "FIRST_LOOK_S", 0.02)
    sim.set(answers=tournament_answers, batch_s=0)

    winner, session = tournament(directory, strategy="batch", model=luna, wait=True)

    assert winner == WINNER
    assert session.summary is None
    assert (sim.stats().batch_jobs, sim.stats().batch_lines) == (4, CALLS)


def test_hybrid_sends_live_what_is_waited_for_alone_and_by_batch_what_is_many(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "3" if "How many" in request.prompt else "leaf", batch_s=LONG_S)
    reached = False

    with session_in(directory, strategy="hybrid", batch_from=3) as session:
        agent = session.agent("planner")
        count = int(agent.ask_llm("How many leaves?").resolve())
        leaves = [agent.ask_llm(f"Leaf {number}") for number in range(count)]
        session.resolve_all(leaves)
        reached = True

    assert not reached
    assert (sim.stats().requests, sim.stats().batch_jobs) == (1, 1)
    assert session.summary is not None
    assert session.summary.awaited == 3


# What is one call, and what is another.


@pytest.mark.parametrize("strategy", ["sync", "async"])
def test_replicates_are_calls_of_their_own_and_equal_calls_are_one(
    strategy: str, luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes")
    with session_in(directory, strategy=strategy) as session, session.agent("one") as agent:
        same = [agent.ask_llm("Well?") for _ in range(10)]
        session.resolve_all(same)

    assert (counted(sim), len({reply.key for reply in same}), len({reply.session_call for reply in same})) == (1, 1, 1)
    with session_in(directory, strategy=strategy) as session, session.agent("one") as agent:
        drawn = [agent.ask_llm("Well?", replicate=index) for index in range(10)]
        session.resolve_all(drawn)

    # The first of them is the plain call.
    assert (counted(sim), len({reply.key for reply in drawn})) == (10, 10)
    assert drawn[0].key == same[0].key
    assert session.counts() == {"asked": 0, "cached": 1, "sent": 0, "stored": 9, "pending": 0, "failed": 0}


def test_a_call_has_the_key_of_a_frames_row_with_the_same_text(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "Paris")
    pllm.configure(cache_dir=directory)
    pd.DataFrame({"country": ["France"]}).llm.complete("The capital of {country}?", model=luna)

    with session_in(directory) as session:
        reply = session.agent("one").ask_llm("The capital of France?")

    assert reply.stage == "cached"
    assert (reply.resolve(), counted(sim)) == ("Paris", 1)


def test_a_call_that_is_put_in_asks_again_only_what_depends_on_it(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: f"<{len(request.prompt)}>")

    def program(inserted: bool, **how: Any) -> int:
        before = counted(sim)
        with session_in(directory) as session, session.agent("one") as agent:
            facts = agent.ask_llm("Facts", **how).resolve()
            if inserted:
                facts += agent.ask_llm("More facts", **how).resolve()
            agent.ask_llm("Digest", facts, **how).resolve()
            agent.ask_llm("Unrelated", **how).resolve()
        return counted(sim) - before

    assert program(inserted=False) == 3
    assert program(inserted=False) == 0
    assert program(inserted=True) == 2
    # Unless the counter is made part of the key.
    assert program(inserted=False, hash_by=["seq"]) == 3
    assert program(inserted=True, hash_by=["seq"]) == 3


def test_agents_share_answers_unless_salted_and_count_for_themselves(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes")

    with session_in(directory) as session:
        one, other = session.agent("one"), session.agent("other")
        replies = [one.ask_llm("Well?"), other.ask_llm("Well?"), other.ask_llm("Well?", salt="other")]
        session.resolve_all(replies)

    assert counted(sim) == 2
    assert [(reply.call.agent, reply.call.number) for reply in replies] == [("one", 0), ("other", 0), ("other", 1)]
    assert (one.history, other.history) == (replies[:1], replies[1:])


def test_one_session_asks_any_provider(
    sim: Simulator, cache_dir: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in (OPENAI, ANTHROPIC, GOOGLE):
        reach(side, sim, monkeypatch)
    sim.set(answers=lambda request: f"{request.provider} {request.model}")

    with pllm.resume_directory(directory, provider="openai") as session:
        agent = session.agent("router")
        replies = [
            agent.ask_llm("Who?"),
            agent.ask_llm("Who?", llm=ANTHROPIC.name),
            agent.ask_llm("Who?", llm=GOOGLE.model),
            agent.ask_llm("Who?", llm=LLMIdentity("the thrifty one", "google", GOOGLE.name)),
        ]
        answers = session.resolve_all(replies)

    assert answers[0].startswith("openai gpt-")
    assert answers[1:] == [f"anthropic {ANTHROPIC.name}", f"google {GOOGLE.name}", f"google {GOOGLE.name}"]
    assert replies[2].key == replies[3].key
    assert replies[3].call.identity == "the thrifty one"


def test_an_option_that_is_none_of_a_call_is_refused(luna: str, sim: Simulator, directory: Path) -> None:
    with session_in(directory) as session:
        agent = session.agent("one")
        with pytest.raises(UnknownOptionError, match=r"no option 'temprature'\. Did you mean 'temperature'\?"):
            agent.ask_llm("Well?", temprature=0.1)
        with pytest.raises(UsageError, match=r"hash_by is a list of 'llm', 'seq', .* not \['sequence'\]"):
            agent.ask_llm("Well?", hash_by=["sequence"])

    assert counted(sim) == 0


# Waiting and ending.


def test_asking_never_blocks_in_async_and_a_value_is_waited_for_alone(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: request.prompt.upper(), latency_s=0.05)

    with session_in(directory) as session, session.agent("one") as agent:
        replies = [agent.ask_llm(f"leaf {number}") for number in range(32)]
        stages = {reply.stage for reply in replies}
        answers = session.resolve_all(replies)

    assert stages <= {"asked", "sent"}
    assert answers == [f"LEAF {number}" for number in range(32)]


def test_sync_has_one_call_on_the_wire_at_a_time(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes")
    seen = []

    with session_in(directory, strategy="sync") as session, session.agent("one") as agent:
        for number in range(3):
            agent.ask_llm(f"leaf {number}")
            seen.append((counted(sim), session.counts()["stored"]))

    assert seen == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("strategy", STRATEGIES[:2])
def test_what_was_asked_and_not_looked_at_is_answered_by_the_end_of_the_block(
    strategy: str, luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes", latency_s=0.05)

    with session_in(directory, strategy=strategy) as session, session.agent("one") as agent:
        reply = agent.ask_llm("Well?")

    assert reply.stage == "stored"


def test_a_pause_is_no_exception_of_the_programs_and_its_finally_runs(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)
    steps = []

    with session_in(directory, strategy="batch") as session, session.agent("one") as agent:
        try:
            agent.ask_llm("Well?").resolve()
            steps.append("value")
        except Exception:
            steps.append("except")
        finally:
            steps.append("finally")
        steps.append("after")

    assert steps == ["finally"]
    assert session.summary is not None


def test_a_barrier_is_passed_when_all_that_was_asked_before_it_is_done(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)
    steps = []

    def program() -> None:
        with session_in(directory, strategy="batch") as session, session.agent("one") as agent:
            replies = [agent.ask_llm(f"leaf {number}") for number in range(3)]
            session.barrier()
            steps.append([reply.stage for reply in replies])

    program()
    sim.advance(LONG_S)
    program()

    assert len(steps) == 1
    assert set(steps[0]) <= {"cached", "stored"}
    assert sim.stats().batch_jobs == 1


def test_a_program_passes_no_point_while_a_job_of_its_cohort_goes_on(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)

    def program(*words: str) -> list[str]:
        passed = []
        with session_in(directory, strategy="batch") as session, session.agent("one") as agent:
            replies = [agent.ask_llm(word) for word in words]
            replies[0].resolve()
            passed += [reply.stage for reply in replies]
        restart()
        return passed

    program("quick")
    sim.advance(LONG_S / 2)
    program("quick", "slow")
    sim.advance(LONG_S / 2)
    # The one job has ended, the other has not; whoever asks for the one alone gets it.
    between, alone = program("quick", "slow"), program("quick")
    sim.advance(LONG_S / 2)
    after = program("quick", "slow")

    assert between == []
    assert alone == ["cached"]
    assert len(after) == 2
    assert set(after) <= {"cached", "stored"}


def test_calls_left_at_the_end_of_a_block_are_submitted(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)

    with session_in(directory, strategy="batch") as session:
        reply = session.agent("one").ask_llm("Well?")

    assert (reply.stage, sim.stats().batch_jobs) == ("pending", 1)
    assert session.summary is not None


def test_nothing_is_submitted_where_nobody_is_there_to_confirm_it(luna: str, sim: Simulator, directory: Path) -> None:
    session = session_in(directory, strategy="batch", confirm=True)
    agent = session.agent("one")
    replies = [agent.ask_llm("one"), agent.ask_llm("two")]

    with pytest.raises(NotConfirmedError, match="2 calls would have been submitted as a batch, and there is no"):
        session.resolve_all(replies)

    assert sim.stats().batch_jobs == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_dry_run_shows_the_first_frontier_and_sends_nothing(
    strategy: str, luna: str, sim: Simulator, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sim.set(answers=lambda request: "yes")

    with session_in(directory, strategy=strategy, dry_run=True) as session:
        agent = session.agent("one")
        session.resolve_all([agent.ask_llm(f"leaf {number}") for number in range(4)])
        raise AssertionError("the block ends before this")

    assert counted(sim) == 0
    assert session.summary is not None
    assert session.summary.estimate is not None
    assert (session.summary.estimate.calls, session.summary.estimate.rows) == (4, 4)
    assert "Nothing was sent." in capsys.readouterr().out


def test_an_await_gives_what_resolve_gives(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: request.prompt.upper(), latency_s=0.02)

    async def chain(agent: Any, name: str) -> str:
        first = await agent.ask_llm(name)
        return str(await agent.ask_llm("again", first))

    async def program() -> list[str]:
        async with session_in(directory) as session, session.agent("one") as agent:
            return list(await asyncio.gather(*(chain(agent, name) for name in ("a", "b", "c"))))

    answers = asyncio.run(program())

    assert [("A" in answers[0]), ("B" in answers[1]), ("C" in answers[2])] == [True] * 3
    assert counted(sim) == 6


def test_tasks_that_await_share_a_frontier(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)

    async def one(agent: Any, word: str) -> str:
        return str(await agent.ask_llm(word))

    async def program() -> None:
        async with session_in(directory, strategy="batch") as session, session.agent("one") as agent:
            await asyncio.gather(*(one(agent, f"leaf {number}") for number in range(5)))
            raise AssertionError("the block ends before this")

    asyncio.run(program())

    assert sim.stats().batch_jobs == 1
    sim.advance(LONG_S)


class Clock:
    """Time as a test has it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_throttler_holds_back_what_is_beyond_its_window(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes")
    clock = Clock()
    seen = []

    with session_in(directory, throttler=pllm.Throttler(2, 60.0, clock=clock)) as session:
        agent = session.agent("one")
        replies = [agent.ask_llm(f"leaf {number}") for number in range(6)]
        for at in (0, 2, 4):
            clock.now = at * 30.0
            session.resolve_all(replies[at : at + 2])
            seen.append(counted(sim))

    assert seen == [2, 4, 6]


def test_a_program_that_fails_sends_nothing_more(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes")
    session = session_in(directory, throttler=pllm.Throttler(1, 60.0, clock=Clock()))
    replies: list[LazyReply] = []

    def program() -> None:
        with session:
            replies.extend(session.agent("one").ask_llm(f"leaf {number}") for number in range(3))
            replies[0].resolve()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        program()

    assert counted(sim) == 1
    assert [reply.stage for reply in replies] == ["stored", "failed", "failed"]
    assert [reply.session_call.error.kind for reply in replies[1:]] == [FailureKind.CANCELLED] * 2  # type: ignore[union-attr]


def test_an_interrupt_reaches_what_a_throttler_holds_back(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes")
    replies: list[LazyReply] = []

    def program() -> None:
        with session_in(directory, throttler=pllm.Throttler(1, 60.0, clock=Clock())) as session:
            replies.extend(session.agent("one").ask_llm(f"leaf {number}") for number in range(2))
            replies[0].resolve()
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
            replies[1].resolve()

    with pytest.raises(KeyboardInterrupt, match="Run the program again to continue"):
        program()

    assert [reply.stage for reply in replies] == ["stored", "failed"]
    assert counted(sim) == 1


# Failures.


def refuse_the_odd(request: SimRequest) -> Any:
    return SimAnswer.refusal("I would rather not.") if "odd" in request.prompt else "yes"


def test_a_failed_call_raises_where_it_is_asked_in_sync_and_where_it_is_needed_in_async(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=refuse_the_odd)

    agent = session_in(directory / "sync", strategy="sync").agent("one")
    with pytest.raises(ErrorResponse, match="one, call 0, refusal: The model refused"):
        agent.ask_llm("odd")

    reply = session_in(directory / "async").agent("one").ask_llm("odd")
    with pytest.raises(ErrorResponse) as caught:
        reply.resolve()

    assert caught.value.kind is FailureKind.REFUSAL
    assert caught.value.call is reply.call


@pytest.mark.parametrize("strategy", STRATEGIES[:2])
def test_coerced_failures_stand_in_the_values_place(
    strategy: str, luna: str, sim: Simulator, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sim.set(answers=refuse_the_odd)

    with session_in(directory, strategy=strategy, errors="coerce") as session, session.agent("one") as agent:
        replies = [agent.ask_llm(word) for word in ("even", "odd", "even still")]
        values = session.resolve_all(replies)

    assert [reply.failed for reply in replies] == [False, True, False]
    assert isinstance(values[1], ErrorResponse)
    assert values[::2] == ["yes", "yes"]
    assert sum("one, call 1, refusal" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("failing", "kind"),
    [
        (SimAnswer.refusal("No."), FailureKind.REFUSAL),
        (SimAnswer.status(400), FailureKind.BAD_REQUEST),
        (SimAnswer.status(503), FailureKind.OVERLOADED),
    ],
    ids=["paid", "rejected", "passing"],
)
def test_a_failure_is_not_asked_again_until_told(
    failing: SimAnswer, kind: FailureKind, luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: failing)

    def program(prepare: Callable[[Session], object] = lambda session: None) -> LazyReply:
        with session_in(directory, errors="coerce") as session:
            prepare(session)
            reply = session.agent("one").ask_llm("Well?", max_retries=0)
            assert reply.failed or reply.resolve() == "yes"
        return reply

    first = program()
    sent = counted(sim)
    restart()
    sim.set(answers=lambda request: "yes")
    second = program()

    assert first.error is not None
    assert second.error is not None
    assert (first.error.kind, second.error.kind) == (kind, kind)
    assert counted(sim) == sent
    assert program(lambda session: session.retry_failed()).resolve() == "yes"
    assert counted(sim) == sent + 1
    assert program().stage == "cached"


def test_a_failure_is_retried_within_its_session(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=refuse_the_odd)
    with session_in(directory, errors="coerce") as session:
        reply = session.agent("one").ask_llm("odd")
        assert reply.failed
        sim.set(answers=lambda request: "yes")

        session.retry_failed()

        assert reply.resolve() == "yes"


def test_a_refused_key_is_no_failure_of_the_call(
    luna: str, sim: Simulator, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.set(answers=lambda request: SimAnswer.status(401))
    with session_in(directory, errors="coerce") as session:
        assert session.agent("one").ask_llm("Well?").failed
    sim.set(answers=lambda request: "yes")

    with session_in(directory) as session:
        assert session.agent("one").ask_llm("Well?").resolve() == "yes"


def test_a_bad_requests_message_names_the_part_that_was_refused(luna: str, sim: Simulator, directory: Path) -> None:
    with session_in(directory, errors="coerce") as session:
        reply = session.agent("one").ask_llm("Well?", extra_body={"no_such_field": 1})

        assert reply.error is not None
        assert reply.error.kind is FailureKind.BAD_REQUEST
        assert "no_such_field" in str(reply.error)


def test_a_paid_failure_is_asked_again_by_batch_when_told(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=refuse_the_odd, batch_s=LONG_S)
    with session_in(directory, errors="coerce") as session:
        assert session.agent("one").ask_llm("odd").failed
    sim.set(answers=lambda request: "yes")

    def program() -> str | None:
        with session_in(directory, strategy="batch") as session:
            session.retry_failed()
            return session.agent("one").ask_llm("odd").resolve()
        return None

    first = program()
    restart()
    sim.advance(LONG_S)
    second = program()

    assert (first, second) == (None, "yes")
    assert sim.stats().batch_jobs == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_missing_key_is_told_where_the_value_is_needed(
    strategy: str, luna: str, sim: Simulator, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")

    with session_in(directory, strategy=strategy, errors="coerce") as session:
        reply = session.agent("one").ask_llm("Well?")

        assert reply.error is not None
        assert "OPENAI_API_KEY" in str(reply.error)
        assert reply.error.kind is FailureKind.AUTHENTICATION
    assert counted(sim) == 0


def test_failures_that_nobody_looked_at_are_logged_once(
    luna: str, sim: Simulator, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sim.set(answers=refuse_the_odd)

    with session_in(directory) as session:
        agent = session.agent("one")
        for number in range(3):
            agent.ask_llm(f"odd {number}")

    (record,) = [record for record in caplog.records if "never read by the program" in record.getMessage()]
    assert record.getMessage().startswith("3 failed calls were never read by the program; the first: one, call ")


def test_the_log_level_holds_within_the_block(luna: str, directory: Path) -> None:
    logger = logging.getLogger("pllm_notebook")
    before = logger.level

    with session_in(directory, log_level="ERROR"):
        within = logger.level

    assert (within, logger.level) == (logging.ERROR, before)


def test_threads_of_a_program_that_ask_the_same_share_a_call(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: request.prompt.upper(), latency_s=0.05)

    with session_in(directory) as session, session.agent("one") as agent, ThreadPoolExecutor(8) as pool:
        words = [f"leaf {number % 4}" for number in range(32)]
        answers = list(pool.map(lambda word: agent.ask_llm(word).resolve(), words))

    assert answers == [word.upper() for word in words]
    assert counted(sim) == 4
    assert sorted(reply.call.number for reply in agent.history) == list(range(32))


def test_tools_are_run_where_a_program_says_so(luna: str, sim: Simulator, directory: Path) -> None:
    def scripted(request: SimRequest) -> Any:
        if request.results:
            return f"It is {request.results[0][1]}."
        return SimAnswer.tool_calls([("weather", {"city": "Paris"})])

    sim.set(answers=scripted)
    ran: list[str] = []

    def weather(city: str) -> str:
        """Tell the weather of a city."""
        ran.append(city)
        return f"sunny in {city}"

    def program() -> str:
        with session_in(directory) as session:
            return session.agent("one").ask_llm("Is it fine?", tools=[weather], run_tools=True).resolve()
        raise AssertionError("the block does not end early")

    first = program()
    restart()

    assert (first, program()) == ("It is sunny in Paris.", "It is sunny in Paris.")
    assert (ran, counted(sim)) == (["Paris"], 2)


# Asking anew.


def test_a_session_that_ignores_the_cache_asks_each_call_once_and_replaces_its_answer(
    luna: str, sim: Simulator, directory: Path
) -> None:
    words = iter(["first", "second"])
    sim.set(answers=lambda request: next(words))
    with session_in(directory) as session:
        session.agent("one").ask_llm("Well?").resolve()

    with session_in(directory, ignore_cache=True) as session:
        agent = session.agent("one")
        anew = [agent.ask_llm("Well?").resolve() for _ in range(2)]

    with session_in(directory) as session:
        kept = session.agent("one").ask_llm("Well?").resolve()
    assert (anew, kept, counted(sim)) == (["second", "second"], "second", 2)


def test_answers_that_are_not_to_be_rewritten_stay(luna: str, sim: Simulator, directory: Path) -> None:
    words = iter(["first", "second"])
    sim.set(answers=lambda request: next(words))
    with session_in(directory) as session:
        session.agent("one").ask_llm("Well?").resolve()

    with session_in(directory, ignore_cache=True, rewrite_cache=False) as session:
        anew = session.agent("one").ask_llm("Well?").resolve()

    with session_in(directory) as session:
        assert (anew, session.agent("one").ask_llm("Well?").resolve()) == ("second", "first")


def test_a_batch_that_ignores_the_cache_goes_on_where_it_was(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=tournament_answers)
    tournament(directory, strategy="async", model=luna)
    sim.set(batch_s=LONG_S)
    winners = []

    for _ in range(5):
        winners.append(tournament(directory, strategy="batch", model=luna, ignore_cache=True)[0])
        restart()
        sim.advance(LONG_S)

    assert winners == [None, None, None, None, WINNER]
    assert sim.stats().batch_jobs == 4


def test_a_jobs_answer_that_lands_while_it_is_asked_after_is_not_paid_for_again_where_the_cache_is_ignored(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "before")
    with session_in(directory) as session:
        session.agent("one").ask_llm("Well?").resolve()
    sim.set(answers=lambda request: "after", batch_s=LONG_S)
    with session_in(directory, strategy="batch", ignore_cache=True) as session:
        session.agent("one").ask_llm("Well?").resolve()
    restart()
    sim.advance(LONG_S)

    with session_in(directory, strategy="batch", ignore_cache=True) as session:
        reply = session.agent("one").ask_llm("Well?")
        assert reply.stage == "pending"
        pllm.configure(cache_dir=directory)
        pllm.jobs().fetch()  # as the service may at any moment
        (run,) = session._sender.send([reply.session_call], "batch")
        run.wait()
        answer = reply.resolve()

    assert answer == "after"
    assert sim.stats().batch_jobs == 1


# What outlives a program.


def test_replies_pickle_and_read_their_answer_from_the_store(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: SimAnswer.value({"score": 7}))
    with session_in(directory) as session:
        reply = session.agent("one").ask_llm("Rate it.", text_format=Rating)
        reply.resolve()
    packed = pickle.dumps(reply)
    del session, reply
    restart()

    revived = pickle.loads(packed)

    assert revived.resolve_parsed() == Rating(score=7)
    assert (revived.stage, counted(sim)) == ("cached", 1)


def test_a_pickled_reply_without_an_answer_says_so(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(batch_s=LONG_S)
    with session_in(directory, strategy="batch") as session:
        reply = session.agent("one").ask_llm("Well?")
    packed = pickle.dumps(reply)
    del session, reply

    revived = pickle.loads(packed)

    with pytest.raises(UsageError, match=r"The answer is not in .*session \(pending\)"):
        revived.resolve()


def test_notes_of_a_session_and_its_agents_outlive_it(luna: str, sim: Simulator, directory: Path) -> None:
    with session_in(directory) as session, session.agent("judge") as agent:
        session.metadata["rounds"] = 3
        agent.metadata["mood"] = ["strict", 1.5, None]

    with session_in(directory) as again:
        assert dict(again.metadata) == {"rounds": 3}
        assert dict(again.agent("judge").metadata) == {"mood": ["strict", 1.5, None]}


def test_what_there_is_of_a_call_is_one_functions_word(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: "yes", batch_s=LONG_S)
    with session_in(directory, strategy="batch") as session:
        agent = session.agent("one")
        reply = agent.ask_llm("Well?")
        before = session.retrieve(reply)
        session.barrier()
    waiting = session.retrieve(reply)
    pllm.configure(cache_dir=directory)
    sim.advance(LONG_S)
    pllm.jobs().fetch()
    after = session.retrieve(reply.call)

    assert isinstance(before, Absent)
    assert isinstance(waiting, Pending)
    assert isinstance(after, Present)
    assert after.answer.text == "yes"


def test_a_json_value_is_found_among_words(luna: str, sim: Simulator, directory: Path) -> None:
    sim.set(answers=lambda request: 'Here it is:\n```json\n{"a": [1, 2]}\n```')

    with session_in(directory) as session:
        reply = session.agent("one").ask_llm("JSON, please")

        assert reply.resolve_json() == {"a": [1, 2]}
        with pytest.raises(UsageError, match="no type to parse into"):
            reply.resolve_parsed()


def test_an_earlier_reply_is_a_document(luna: str, sim: Simulator, directory: Path) -> None:
    seen: list[Any] = []

    def answer(request: SimRequest) -> str:
        seen.append(request.prompt)
        return "four"

    sim.set(answers=answer)
    with session_in(directory) as session, session.agent("one") as agent:
        first = agent.ask_llm("Two and two?")
        agent.ask_llm("Two and two?", first, "Are you sure?").resolve()

    assert seen[-1] == "Are you sure?"
    assert first.to_assistant_message().text == "four"


class Rating(BaseModel):
    """A rating."""

    score: int
