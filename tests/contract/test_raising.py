"""One at a time in order, and stopping at the first failure, for those who step through."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import pllm_notebook as pllm
from pllm_notebook.exceptions import RowError
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.scripts import by_word, words
from tests.contract.sides import Side

ROWS = [f"row {n}" for n in range(8)]


class Fact(BaseModel):
    name: str


class Checked(Fact):
    @field_validator("name")
    @classmethod
    def _right(cls, name: str) -> str:
        if name == "wrong":
            raise ValueError("wrong")
        return name


def good(request: SimRequest) -> Any:
    return {"name": request.messages[0][1]}


def prompts(sim: Simulator) -> list[str]:
    """What was asked, in order of arrival; OpenAI's form."""
    return [request["body"]["messages"][-1]["content"] for request in sim.requests()]


def test_sync_asks_in_order_and_one_at_a_time(side: Side, sim: Simulator) -> None:
    seen: list[str] = []

    def answer(request: SimRequest) -> Any:
        seen.append(request.prompt)
        return {"name": request.prompt}

    sim.set(answers=answer, latency_s=0.001)

    out = words(*ROWS).llm.parse(Fact, "{text}", model=side.model, mode="sync")

    assert seen == ROWS
    assert out["name"].tolist() == ROWS
    assert sim.stats().peak_in_flight == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (SimAnswer.refusal("no"), "refusal"),
        (SimAnswer.text('{"name": 1}'), "schema"),
        (SimAnswer.status(500), "server_error"),
        (SimAnswer.status(400), "bad_request"),
    ],
    ids=["refusal", "schema", "server_error", "bad_request"],
)
def test_sync_raises_at_the_first_failure_and_sends_no_more(
    luna: str, sim: Simulator, fault: SimAnswer, kind: str
) -> None:
    sim.set(answers=by_word({"row 3": fault, "row 5": fault}, good))

    with pytest.raises(RowError) as caught:
        words(*ROWS).llm.parse(Fact, "{text}", model=luna, mode="sync", max_retries=0, max_repairs=0)

    error = caught.value
    assert (error.kind, error.position, error.kept, error.total) == (kind, 3, 3, 8)
    assert str(error).startswith(f"Row 3 failed ({kind}): ")
    assert prompts(sim) == ROWS[:4]
    assert pllm.runs()[-1].to_frame()["name"].notna().tolist() == [True] * 3 + [False] * 5


def test_sync_repairs_a_row_before_it_goes_on(luna: str, sim: Simulator) -> None:
    def answer(request: SimRequest) -> Any:
        return {"name": "wrong"} if len(request.messages) == 1 and request.prompt == "row 1" else good(request)

    sim.set(answers=answer)

    out = words(*ROWS[:3]).llm.parse(Checked, "{text}", model=luna, mode="sync")

    assert out["name"].tolist() == ROWS[:3]
    assert [len(request["body"]["messages"]) for request in sim.requests()] == [1, 1, 3, 1]


def test_errors_raise_ends_the_run_at_the_first_failure(side: Side, sim: Simulator) -> None:
    # Row 4 leaves when the refusal is back and before it has been read; it must not be waited for.
    slow = SimAnswer.value({"name": "late"}, latency_s=3600)
    sim.set(answers=by_word({"row 3": SimAnswer.refusal("no"), "row 4": slow}, good))

    with pytest.raises(RowError) as caught:
        words(*ROWS).llm.parse(Fact, "{text}", model=side.model, errors="raise", concurrency=1)

    assert (caught.value.position, caught.value.total) == (3, 8)
    assert sim.stats().requests <= 5


def test_a_failure_from_the_cache_raises_without_sending(luna: str, sim: Simulator) -> None:
    sim.set(answers=by_word({"row 3": SimAnswer.refusal("no")}, good))
    with pytest.warns(UserWarning, match="1 of 8 rows failed"):
        words(*ROWS).llm.parse(Fact, "{text}", model=luna)
    sim.reset()

    with pytest.raises(RowError) as caught:
        words(*ROWS).llm.parse(Fact, "{text}", model=luna, mode="sync")

    assert (caught.value.position, caught.value.kind) == (3, "refusal")
    assert sim.stats().requests == 0


def test_failures_are_told_once_with_their_count(luna: str, sim: Simulator) -> None:
    sim.set(answers=by_word({"row 3": SimAnswer.refusal("no"), "row 5": SimAnswer.truncated()}, good))

    with pytest.warns(UserWarning, match="rows failed") as told:
        words(*ROWS).llm.parse(Fact, "{text}", model=luna)

    ours = [str(warning.message) for warning in told if "rows failed" in str(warning.message)]
    assert ours == ["2 of 8 rows failed and have no answer; .llm.errors says why."]
