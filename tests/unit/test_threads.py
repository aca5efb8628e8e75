"""Daemon threads: reused while they return, and no limit when they do not."""

from __future__ import annotations

import ast
import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path

import pytest

import pllm_notebook
from pllm_notebook.threads import DaemonLoop, DaemonThreads

PATIENCE_S = 180.0


@pytest.fixture
def opened() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def name() -> str:
    return threading.current_thread().name


def test_threads_are_daemons_and_are_used_again() -> None:
    threads = DaemonThreads("test")

    names = {threads.submit(name).result(PATIENCE_S) for _ in range(50)}
    daemon = threads.submit(lambda: threading.current_thread().daemon).result(PATIENCE_S)

    assert len(names) <= 2  # the first may not have become idle when the second piece came
    assert daemon


def test_no_more_than_so_many_work_at_once_while_they_return(opened: threading.Event) -> None:
    threads = DaemonThreads("test", at_once=2)
    started = threading.Semaphore(0)
    most = [0]
    now = [0]
    lock = threading.Lock()

    def work() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        started.release()
        with lock:
            now[0] -= 1

    wait([threads.submit(work) for _ in range(200)], PATIENCE_S)

    assert most[0] <= 2


def test_work_that_never_returns_holds_up_nothing_behind_it(opened: threading.Event) -> None:
    threads = DaemonThreads("test", at_once=2)
    stuck = [threads.submit(opened.wait) for _ in range(5)]

    assert threads.submit(int).result(PATIENCE_S) == 0
    assert not any(future.done() for future in stuck)


def test_work_for_an_idle_thread_waits_for_no_patience(opened: threading.Event) -> None:
    threads = DaemonThreads("patient", at_once=1, patience_s=3600.0)
    first = threads.submit(opened.wait, 60)
    second = threads.submit(int)  # behind it, so that a thread waits for the patience of the queue to end
    opened.set()
    assert (first.result(60), second.result(60)) == (True, 0)

    for _ in range(200):
        done = threads.submit(int)
        assert done.result(5) == 0


@pytest.mark.parametrize("raised", [ValueError("made up"), SystemExit(3), KeyboardInterrupt()])
def test_what_work_raises_is_its_own_result(raised: BaseException) -> None:
    threads = DaemonThreads("test", at_once=1)

    def work() -> None:
        raise raised

    assert threads.submit(work).exception(PATIENCE_S) is raised
    assert threads.submit(int).result(PATIENCE_S) == 0


def test_after_shutdown_nothing_is_taken_and_what_waits_can_be_cancelled(opened: threading.Event) -> None:
    threads = DaemonThreads("test", at_once=1, patience_s=PATIENCE_S)
    begun = threading.Event()
    going = threads.submit(lambda: begun.set() or opened.wait())
    assert begun.wait(PATIENCE_S)
    waiting = threads.submit(int)

    threads.shutdown(wait=False, cancel_futures=True)

    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        threads.submit(int)
    opened.set()
    assert going.result(PATIENCE_S)


def test_shutdown_can_wait_for_what_was_given() -> None:
    threads = DaemonThreads("test", at_once=1)
    given = [threads.submit(int) for _ in range(20)]

    threads.shutdown(wait=True)

    assert all(future.done() for future in given)


def test_work_that_was_cancelled_before_it_began_is_not_done(opened: threading.Event) -> None:
    threads = DaemonThreads("test", at_once=1)
    done: list[int] = []
    first = threads.submit(opened.wait, 0.05)
    waiting = threads.submit(done.append, 1)

    waiting.cancel()
    first.result(PATIENCE_S)

    assert threads.submit(int).result(PATIENCE_S) == 0
    assert done == []


def test_a_forked_child_begins_anew() -> None:
    threads = DaemonThreads("test")
    threads.submit(int).result(PATIENCE_S)

    child = os.fork()
    if not child:
        os._exit(0 if threads.submit(int).result(PATIENCE_S) == 0 else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_work_that_ends_after_its_loop_is_dropped_in_silence(
    opened: threading.Event, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    threads = DaemonThreads("test")
    loop = DaemonLoop()

    async def begin() -> None:
        loop.run_in_executor(threads, opened.wait)

    loop.run_until_complete(begin())
    loop.close()
    opened.set()
    threads.shutdown(wait=True)

    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_loops_own_threads_are_daemons() -> None:
    with asyncio.Runner(loop_factory=DaemonLoop) as runner:

        async def look() -> bool:
            return await asyncio.to_thread(lambda: threading.current_thread().daemon)

        assert runner.run(look())


def test_no_pool_of_the_interpreters_is_used_anywhere() -> None:
    package = Path(pllm_notebook.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name | ast.Attribute):
                word = node.id if isinstance(node, ast.Name) else node.attr
                if word in ("ThreadPoolExecutor", "ProcessPoolExecutor"):
                    found.append(f"{path.relative_to(package)}:{node.lineno}")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                daemon = any(word.arg == "daemon" for word in node.keywords)
                if called == "Thread" and not daemon:
                    found.append(f"{path.relative_to(package)}:{node.lineno}")

    assert found == []


def test_results_are_futures_that_anybody_can_wait_for() -> None:
    futures: list[Future[int]] = [DaemonThreads("test").submit(int) for _ in range(3)]

    assert not wait(futures, PATIENCE_S).not_done
