"""A fault of ours, or of the machine, ends the run with that error: nobody waits for ever, and nothing paid is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook.engine import engine
from pllm_notebook.execution import LiveRun, WholePrompts, build_spec, options_for, start
from pllm_notebook.failures import Failure
from pllm_notebook.sim import Simulator
from pllm_notebook.store import open_store
from tests.contract.scripts import words

ROWS = 6


class Breaking(WholePrompts):
    """Rows that can be planned, and of which one cannot be sent.

    Args:
        broken: The row.
    """

    label = "rows"
    total = ROWS

    def __init__(self, broken: int | None = None) -> None:
        self._broken = broken

    def prompts(self, rows: range) -> Sequence[str | Failure | None]:
        if len(rows) == 1 and rows[0] == self._broken:
            raise ZeroDivisionError("made up")
        return [f"row {row}" for row in rows]

    def assemble(self, run: LiveRun) -> Any:
        return [run.table.status(row) for row in range(self.total)]

    def errors(self, run: LiveRun) -> Any:
        return [run.table.failure(row) for row in range(self.total)]


def begin(model: str, rows: Breaking, **options: Any) -> LiveRun:
    return start(build_spec(options_for({"model": model} | options), None, instruct=False), rows)


def test_a_run_that_cannot_begin_ends_with_the_error(luna: str, sim: Simulator) -> None:
    engine().workers.shutdown()
    run = words("a").llm.submit_text("{text}", model=luna)

    with pytest.raises(RuntimeError, match="after shutdown"):
        run.result()

    assert (run.state, run.done()) == ("failed", True)
    assert sim.stats().requests == 0


def test_who_awaits_a_run_that_cannot_begin_is_told_too(luna: str) -> None:
    async def main() -> Any:
        return await words("a").llm.submit_text("{text}", model=luna)

    engine().workers.shutdown()

    with pytest.raises(RuntimeError, match="after shutdown"):
        asyncio.run(main())


def test_a_run_that_cannot_go_on_again_ends_with_the_error(luna: str, sim: Simulator) -> None:
    sim.set(error_500=1.0)
    run = words("a").llm.submit_text("{text}", model=luna, max_retries=0)
    run.wait()
    engine().workers.shutdown()

    run.retry()

    with pytest.raises(RuntimeError, match="after shutdown"):
        run.result()


def test_a_fault_on_the_way_ends_the_run_and_what_was_answered_is_kept(luna: str, sim: Simulator) -> None:
    run = begin(luna, Breaking(4), concurrency=1)

    with pytest.raises(ZeroDivisionError, match="made up"):
        run.result()
    open_store().flush()
    again = begin(luna, Breaking())
    again.wait()

    assert run.state == "failed"
    assert again.to_frame() == ["cached"] * 4 + ["ok"] * 2
    assert sim.stats().requests == ROWS


def test_a_fault_in_one_run_leaves_the_others_alone(luna: str, sim: Simulator) -> None:
    sim.set(latency_s=0.05)
    good = begin(luna, Breaking(), concurrency=2, salt="good")
    bad = begin(luna, Breaking(0), salt="bad")
    bad.wait()

    assert bad.state == "failed"
    assert good.result() == ["ok"] * ROWS


def test_a_run_that_a_fault_ended_is_not_gone_on_with(luna: str) -> None:
    run = begin(luna, Breaking(0))
    run.wait()

    with pytest.raises(pllm.PllmError) as caught:
        run.retry()

    told = "An internal error ended the run. Run the cell again: what is answered is kept."
    assert str(caught.value) == told
