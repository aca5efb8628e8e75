"""A model whose money is gone sends nothing more, whenever its calls come."""

from __future__ import annotations

import pandas as pd

from pllm_notebook.execution import Execution
from pllm_notebook.failures import Failure, FailureKind
from tests.simulation.accounts import Accounts
from tests.simulation.asking import RATES, Asker
from tests.simulation.disk import Disk, DiskFaults, SimStore
from tests.simulation.provider import Provider, ProviderFaults
from tests.simulation.scenario import Question, Step
from tests.simulation.world import Process, Trace

_NO_MONEY = Failure(FailureKind.BUDGET, "Not sent.")


def ensemble(*cells: str) -> tuple[Process, Execution]:
    """Return a run of two samples for each cell, of which nothing is planned."""
    process, disk, accounts = Process(1, "over budget", Trace()), Disk(), Accounts()
    provider = Provider(process, accounts, ProviderFaults(), RATES, "over budget")
    store = SimStore(process, disk, accounts, DiskFaults(), "over budget")
    asker = Asker(process, provider, store, "over budget", unenforced_schema=False)
    run, _ = asker.make(Step(Question(samples=2)), pd.DataFrame({"text": cells}))
    return process, run.execution


def test_calls_that_are_planned_while_their_model_runs_out_of_money_do_not_keep_the_run_going() -> None:
    process, run = ensemble("one", "two")
    chunk, *_ = run.planner.next_chunks()
    queue = run.queues[chunk.spec]

    queue.over_budget = _NO_MONEY
    queue.recorder.halt("failed", None)
    run.take_chunk(chunk)  # a worker was at it
    run.advance(queue)

    assert not queue.order.has_calls
    assert [run.results.outcomes[call].failure for call in chunk.missing] == [_NO_MONEY] * 2
    process.throw_away()
