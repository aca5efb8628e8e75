"""What a run may hold: a store that cannot keep up holds the run back before memory does."""

from __future__ import annotations

from pllm_notebook.execution.call_queue import MOST_BACKLOG_BYTES
from pllm_notebook.sim import SimRequest, Simulator
from pllm_notebook.store import open_store
from tests.faults.asking import ask, rows
from tests.faults.children import number_in, until

REPLY_BYTES = 2**21
AT_ONCE = 4


def test_replies_that_wait_to_be_written_are_bounded_in_bytes(sim: Simulator, address: str) -> None:
    # Each reply is stored twice over: its text, and the body that it came in.
    def large(request: SimRequest) -> dict[str, object]:
        return {"number": number_in(request.prompt), "note": "x" * REPLY_BYTES}

    sim.set(answers=large)
    store = open_store()
    most = MOST_BACKLOG_BYTES + (AT_ONCE + 1) * 2 * (REPLY_BYTES + 2000)

    with store.change_lock:  # a disk that does not answer
        run = ask(rows(60), concurrency=AT_ONCE)
        until(lambda: run.progress().note == "waiting for the cache to be written", "the run is held back")
        until(lambda: sim.stats().in_flight == 0, "what was on the wire has landed")
        held, answered = store.backlog_bytes, sim.stats().answered
    out = run.result()

    assert MOST_BACKLOG_BYTES < held <= most
    assert answered < 60
    assert store.backlog_bytes == 0
    assert out["number"].tolist() == list(range(60))
