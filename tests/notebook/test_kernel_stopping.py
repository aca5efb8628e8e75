"""Interrupt and Stop in a real kernel: spending stops, what finished is kept, the kernel goes on."""

from __future__ import annotations

import pytest

from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.kernel

BLOCKING = "out = {}.llm.parse(bool, 'Read {{text}}')"
AWAITED = "out = await {}.llm.aparse(bool, 'Read {{text}}')"
MAGIC = "%%pllm {} --schema bool --out out\nRead {{text}}"
ENGINE = "__import__('pllm_notebook.engine', fromlist=['x']).engine('{}').loop.loop"

# With this latency the whole run would take minutes: one that ends within the test was stopped.
SLOW = "server = sim(latency_s=20)"


@pytest.fixture(params=["private", "notebook"], scope="module")
def loop(request: pytest.FixtureRequest, kernel: Kernel) -> str:
    """The engine's place; "notebook" in a kernel that has just started, since it is chosen once."""
    if request.param == "notebook":
        kernel.restart()
        kernel.ok("pllm.configure(loop='notebook')")
    return str(request.param)


@pytest.mark.sample(1)
def test_twenty_interrupts_lose_nothing_and_leave_nothing(kernel: Kernel, loop: str) -> None:
    # Half of the calls are never answered, so that few are in a turn, however late a busy machine interrupts it.
    kernel.ok(f"server = sim(latency_s=0.05, hang=0.5); big = reviews(2000, 'twenty {loop}')")
    kernel.ok("pllm.configure(concurrency=16)")
    kept = 0

    for turn in range(20):
        code = (BLOCKING, AWAITED, MAGIC)[turn % 3]
        cell = kernel.start(code.format("big"))
        kernel.until(lambda cell=cell: bool(cell.views()))  # type: ignore[misc]
        kernel.interrupt()
        kernel.finish(cell)
        assert cell.reply["ename"] == ("KeyboardInterrupt", "CancelledError", "RunInterrupted")[turn % 3]
        assert len(cell.error.splitlines()) == 1, cell.error
        before, kept = kept, kernel.value("sum(v is not pd.NA for v in pllm.runs()[-1].to_frame()['answer'])")
        assert kept >= before
        assert cell.texts[0].startswith(f"■ stopped: bool: {kept:,} of 2,000 rows answered")

    assert 0 < kept < 2000
    tasks = f"[str(t) for t in asyncio.all_tasks({ENGINE.format(loop)}) if 'pllm_notebook' in str(t.get_coro())]"
    assert kernel.value(tasks) == []
    kernel.ok("server = sim(); pllm.configure(concurrency=None)")
    kernel.ok(BLOCKING.format("big"))
    assert kernel.value("[server.stats().requests, int(out['answer'].isna().sum())]") == [2000 - kept, 0]


@pytest.mark.parametrize("code", [BLOCKING, AWAITED, MAGIC], ids=["blocking", "awaited", "magic"])
def test_a_queued_cell_runs_after_a_run_and_is_aborted_after_an_interrupt(kernel: Kernel, loop: str, code: str) -> None:
    kernel.ok("sim(latency_s=0.4)")
    run = kernel.start(code.format(f"reviews(5, 'queued {loop}')"))
    queued = kernel.start("1 + 1")
    assert kernel.finish(run).status == "ok"
    assert kernel.finish(queued).result == "2"

    kernel.ok(SLOW)
    run = kernel.start(code.format(f"reviews(5, 'aborted {loop}')"))
    queued = kernel.start("1 + 1")
    kernel.until(lambda: bool(run.views()))
    kernel.interrupt()
    assert kernel.finish(run).status == "error"
    assert kernel.finish(queued).status == "aborted"

    assert kernel.ok("1 + 1").result == "2"


@pytest.mark.parametrize("code", [BLOCKING, AWAITED, MAGIC], ids=["blocking", "awaited", "magic"])
def test_a_stop_click_on_a_subshell_ends_the_run(kernel: Kernel, loop: str, code: str) -> None:
    if "kernel subshells" not in kernel.features:
        pytest.skip("this kernel has no subshells: a click waits for the cell, and the interrupt is the stop")
    kernel.ok(SLOW)
    run = kernel.start(code.format(f"reviews(5000, 'stop {loop}')"))
    kernel.until(lambda: bool(run.views()))
    subshell = kernel.ask("control", "create_subshell_request", {})["subshell_id"]

    kernel.do(run.views()[0], "stop", subshell_id=subshell)
    kernel.finish(run)

    assert run.reply["ename"] == "RunInterrupted"
    assert run.texts[0].startswith("■ stopped: bool: 0 of 5,000 rows answered")
    assert kernel.ok("1 + 1").result == "2"


@pytest.mark.parametrize(
    ("code", "name"),
    [(BLOCKING, "KeyboardInterrupt"), (AWAITED, "CancelledError"), (MAGIC, "RunInterrupted")],
    ids=["blocking", "awaited", "magic"],
)
def test_an_interrupt_says_what_is_kept_in_one_line_wherever_it_came(
    kernel: Kernel, loop: str, code: str, name: str
) -> None:
    kernel.ok(SLOW)
    run = kernel.start(code.format(f"reviews(5000, 'said {name} {loop}')"))
    kernel.until(lambda: bool(run.views()))

    kernel.interrupt()
    kernel.finish(run)

    stopped = kernel.value("pllm.runs()[-1].id")
    assert run.error == (
        f"{name}: Stopped. 0 of 5,000 rows are answered and kept: "
        f"pllm.run({stopped!r}).to_frame() shows them. Run the cell again to continue."
    )


def test_cancelling_a_background_run_leaves_the_kernel_free(kernel: Kernel, loop: str) -> None:
    kernel.ok(SLOW)
    started = kernel.ok(f"run = reviews(5000, 'cancelled {loop}').llm.submit(bool, 'Read {{text}}')")
    kernel.until(lambda: bool(started.views()))

    kernel.ok("run.cancel()")
    kernel.until(lambda: started.texts[0].startswith("■ stopped: bool: 0 of 5,000 rows answered"))

    assert kernel.value("[run.state, run.done()]") == ["cancelled", True]
