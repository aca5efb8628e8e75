"""What is sent again and what is not: the key of a call is all that determines its answer, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.execution import live_of
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.scripts import words
from tests.contract.sides import Side

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Fact(BaseModel):
    """A fact."""

    name: str
    score: int


class Renamed(BaseModel):
    """A fact."""

    title: str
    score: int


class Reordered(BaseModel):
    """A fact."""

    score: int
    name: str


class Described(BaseModel):
    """A fact."""

    name: str = Field(description="As written")
    score: int


def test_a_second_run_sends_nothing(side: Side, sim: Simulator) -> None:
    frame = words(*"abc")
    first = frame.llm.parse(Fact, "{text}", model=side.model)
    sim.reset()

    again = frame.llm.parse(Fact, "{text}", model=side.model)

    assert sim.stats().requests == 0
    assert again.llm.status.tolist() == ["cached"] * 3
    assert again["name"].tolist() == first["name"].tolist()


def test_the_head_is_not_paid_for_twice(side: Side, sim: Simulator) -> None:
    frame = words(*(f"row {n}" for n in range(50)))
    frame.head(20).llm.parse(Fact, "{text}", model=side.model)
    head = sim.stats().requests

    frame.llm.parse(Fact, "{text}", model=side.model)

    assert (head, sim.stats().requests) == (20, 50)
    assert sim.stats().repeated == 0


def test_equal_rows_share_one_call(side: Side, sim: Simulator) -> None:
    frame = words("a", "b", "a", "a")

    out = frame.llm.parse(Fact, "{text}", model=side.model)

    names = out["name"].tolist()
    assert sim.stats().requests == 2
    assert names[0] == names[2] == names[3] != names[1]


CHANGES: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "read {text}"},
    "system": {"system": "Be brief."},
    "temperature": {"temperature": 0.5},
    "salt": {"salt": "again"},
    "field": {"extra_body": {"seed": 7}},
    "renamed field of the type": {"kind": Renamed},
    "order of the type's fields": {"kind": Reordered},
    "description in the type": {"kind": Described},
    "type": {"kind": Literal["yes", "no"]},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_can_change_the_answer_is_sent_again(luna: str, sim: Simulator, change: str) -> None:
    asked: dict[str, Any] = {"kind": Fact, "prompt": "{text}", "model": luna}
    words("a").llm.parse(**asked)

    words("a").llm.parse(**asked | CHANGES[change])

    assert sim.stats().requests == 2


def test_another_model_is_another_question(side: Side, sim: Simulator) -> None:
    words("a").llm.complete("{text}", model=side.model)

    words("a").llm.complete("{text}", model=f"{side.model}-2")

    assert sim.stats().requests == 2


SAME: dict[str, dict[str, Any]] = {
    "concurrency": {"concurrency": 1},
    "rates": {"requests_per_min": 1e6, "tokens_per_min": 1e9},
    "timeout": {"timeout_s": 7},
    "retries": {"max_retries": 0, "max_repairs": 0},
    "output limit": {"max_output_tokens": 1000},
    "budget": {"max_cost_usd": 1.0},
    "mode": {"mode": "sync"},
    "errors": {"errors": "raise"},
    "columns": {"prefix": "p_", "error_column": "error"},
    "transport field": {"extra_body": {"user": "me", "service_tier": "flex"}},
}


@pytest.mark.parametrize("same", SAME)
def test_what_cannot_change_the_answer_is_not_sent_again(luna: str, sim: Simulator, same: str) -> None:
    words("a").llm.parse(Fact, "{text}", model=luna)

    out = words("a").llm.parse(Fact, "{text}", model=luna, **SAME[same])

    assert out.llm.status.tolist() == ["cached"]
    assert sim.stats().requests == 1


def test_the_address_of_a_server_is_not_part_of_the_question(sim: Simulator, cache_dir: Path) -> None:
    pllm.configure(servers={"mine": sim.base_url("compatible")})
    words("a").llm.complete("{text}", model="mine:m")
    pllm.configure(servers={"mine": "http://127.0.0.1:9/v1", "yours": sim.base_url("compatible")})

    same = words("a").llm.complete("{text}", model="mine:m")
    other = words("a").llm.complete("{text}", model="yours:m")

    assert (same.llm.status.tolist(), other.llm.status.tolist()) == (["cached"], ["ok"])


def test_a_truncated_reply_serves_its_own_limit_and_no_larger_one(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: "x" * 400)

    def ask(limit: int) -> tuple[str, int]:
        out = words("a").llm.complete("{text}", model=hosted.model, max_output_tokens=limit)
        return out.llm.status[0], sim.stats().requests

    assert ask(50) == ("failed", 1)
    assert ask(50) == ("failed", 1)
    assert ask(40) == ("failed", 1)
    assert ask(99) == ("failed", 2)
    assert ask(100) == ("ok", 3)
    assert ask(1000) == ("cached", 3)


def test_a_complete_reply_serves_every_limit_that_it_fits(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: "x" * 400)

    def ask(limit: int | None) -> tuple[str, int]:
        out = words("a").llm.complete("{text}", model=hosted.model, max_output_tokens=limit)
        return out.llm.status[0], sim.stats().requests

    assert ask(None) == ("ok", 1)
    assert ask(1000) == ("cached", 1)
    assert ask(100) == ("cached", 1)
    assert ask(99) == ("failed", 2)


def test_refresh_asks_again_and_replaces(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: "old")
    words("a").llm.complete("{text}", model=luna)
    sim.set(answers=lambda request: "new")

    fresh = words("a").llm.complete("{text}", model=luna, cache="refresh")
    kept = words("a").llm.complete("{text}", model=luna)

    assert fresh["answer"].tolist() == kept["answer"].tolist() == ["new"]
    assert (fresh.llm.status[0], kept.llm.status[0]) == ("ok", "cached")
    assert sim.stats().requests == 2


def test_a_refresh_that_fails_leaves_the_old_answer(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: "old")
    words("a").llm.complete("{text}", model=luna)
    sim.set(answers=lambda request: SimAnswer.status(500))

    fresh = words("a").llm.complete("{text}", model=luna, cache="refresh", max_retries=0)
    kept = words("a").llm.complete("{text}", model=luna)

    assert fresh.llm.status.tolist() == ["failed"]
    assert kept["answer"].tolist() == ["old"]


def test_only_sends_nothing_and_needs_no_key(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    words("a").llm.complete("{text}", model=luna)
    monkeypatch.delenv("OPENAI_API_KEY")

    out = words("a", "b").llm.complete("{text}", model=luna, cache="only")

    assert out.llm.status.tolist() == ["cached", "failed"]
    assert out.llm.errors["kind"].tolist() == ["not_cached"]
    assert sim.stats().requests == 1


def test_only_fills_in_later(luna: str, sim: Simulator) -> None:
    run = words("a", "b").llm.submit_text("{text}", model=luna, cache="only")
    run.wait()

    out = words("a", "b").llm.complete("{text}", model=luna)

    assert out.llm.status.tolist() == ["ok", "ok"]


def test_a_retry_with_only_takes_what_has_come_and_sends_nothing(luna: str, sim: Simulator) -> None:
    run = words("a", "b").llm.submit_text("{text}", model=luna, cache="only")
    run.wait()
    words("a").llm.complete("{text}", model=luna)

    run.retry().wait()

    assert run.to_frame().llm.status.tolist() == ["cached", "failed"]
    assert run.errors["kind"].tolist() == ["not_cached"]
    assert sim.stats().requests == 1


def test_off_neither_reads_nor_writes(luna: str, sim: Simulator) -> None:
    words("a").llm.complete("{text}", model=luna)

    unread = words("a", "b").llm.complete("{text}", model=luna, cache="off")
    unwritten = words("b").llm.complete("{text}", model=luna)

    assert unread.llm.status.tolist() == ["ok", "ok"]
    assert unwritten.llm.status.tolist() == ["ok"]
    assert sim.stats().requests == 4


def test_off_still_shows_what_came_back(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: "yes")

    out = words("a").llm.complete("{text}", model=luna, cache="off")

    assert out.llm.explain(0).reply["choices"][0]["message"]["content"] == "yes"


def test_two_runs_at_once_send_an_equal_call_once(side: Side, sim: Simulator) -> None:
    # More rows than a server of unknown width is sent at once, so that most wait while others are in flight.
    sim.set(latency_s=0.1, answers=lambda request: f"{request.prompt} {request.index}")
    frame = words(*(f"row {n}" for n in range(20)))

    runs = [frame.llm.submit_text("{text}", model=side.model) for _ in range(3)]
    frames = [run.result()["answer"].tolist() for run in runs]

    assert frames[0] == frames[1] == frames[2]
    assert sim.stats().requests == 20


def test_a_run_that_is_stopped_leaves_a_shared_call_to_the_other(luna: str, sim: Simulator) -> None:
    sim.set(latency_s=0.3, answers=lambda request: request.prompt)
    frame = words(*(f"row {n}" for n in range(5)))

    stopped = frame.llm.submit_text("{text}", model=luna)
    other = frame.llm.submit_text("{text}", model=luna)
    stopped.cancel()
    out = other.result()

    assert out["answer"].tolist() == [f"row {n}" for n in range(5)]
    assert stopped.state == "cancelled"


def test_retry_sends_what_can_succeed_and_nothing_else(side: Side, sim: Simulator) -> None:
    faults = {"busy": SimAnswer.status(503), "lost": SimAnswer.reset(), "refused": SimAnswer.refusal("no")}

    def failing(request: SimRequest) -> Any:
        return faults.get(request.prompt, "yes")

    sim.set(answers=failing)
    run = words("busy", "lost", "refused", "fine").llm.submit_text("{text}", model=side.model, max_retries=0)
    run.wait()
    before = tuple(map(live_of(run).table.status, range(4)))
    sim.set(answers=lambda request: "yes")
    sim.reset()

    out = run.retry().result()

    assert before == ("failed", "failed", "failed", "ok")
    assert out.llm.status.tolist() == ["ok", "ok", "failed", "ok"]
    assert sim.stats().requests == 2


def test_a_refusing_sdk_key_does_not_stop_a_retry_with_a_good_one(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(401))
    run = words("a", "b").llm.submit_text("{text}", model=luna)
    with pytest.raises(pllm.PllmError):
        run.result()
    sim.set(answers=lambda request: "yes")

    out = run.retry().result()

    assert out["answer"].tolist() == ["yes", "yes"]


def test_two_runs_over_the_same_rows_in_other_orders_pay_once(luna: str, sim: Simulator) -> None:
    sim.set(latency_s=0.02, answers=lambda request: request.prompt)
    frame = words(*(f"row {n}" for n in range(300)))

    runs = [rows.llm.submit_text("{text}", model=luna, concurrency=8) for rows in (frame, frame[::-1])]
    first, second = (run.result()["answer"].tolist() for run in runs)

    assert first == [f"row {n}" for n in range(300)]
    assert second == first[::-1]
    assert sim.stats().requests == 300


def test_a_retry_after_a_failed_repair_pays_for_the_repair_alone(luna: str, sim: Simulator) -> None:
    asked: list[int] = []

    def answers(request: SimRequest) -> Any:
        asked.append(len(request.messages))
        first = not any(role == "assistant" for role, _ in request.messages)
        if first:
            return '{"value": "no number"}'
        return SimAnswer.status(500) if len(asked) < 3 else '{"value": 3}'

    sim.set(answers=answers)
    run = words("a").llm.submit(int, "{text}", model=luna, max_retries=0)
    run.wait()
    out = run.retry().result()

    assert out["answer"].tolist() == [3]
    assert len(asked) == 3, "the question, its repair, and the repair once more"
