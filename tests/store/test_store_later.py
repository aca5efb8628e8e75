"""The registry's writes that nobody waits for, and those who read what they write."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from pllm_notebook.store.later import finish_writes, write_later
from pllm_notebook.store.run_files import RunFiles


def test_who_reads_the_registry_has_what_was_given_to_be_written(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))
    for number in range(20):
        write_later(lambda number=number: files.write({"id": f"{number:08x}", "started_at": 1.0 + number}))  # type: ignore[misc]

    assert [header["id"] for header in files.headers()] == [f"{number:08x}" for number in reversed(range(20))]


def test_work_is_done_in_order_on_another_thread() -> None:
    done: list[tuple[int, bool]] = []
    here = threading.current_thread()
    for number in range(10):
        write_later(lambda number=number: done.append((number, threading.current_thread() is here)))  # type: ignore[misc]

    finish_writes()

    assert done == [(number, False) for number in range(10)]


def test_work_that_reads_what_is_written_does_not_wait_for_itself(tmp_path: Path) -> None:
    found: list[int] = []
    write_later(lambda: found.append(len(list(RunFiles(str(tmp_path)).headers()))))

    finish_writes()

    assert found == [0]


@pytest.mark.parametrize("error", [OSError("the disk is gone"), SystemExit(3)])
def test_work_that_raises_is_logged_and_stops_no_other(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def fail() -> None:
        raise error

    with caplog.at_level(logging.ERROR):
        write_later(fail)
        write_later(lambda: done.append(1))
        finish_writes()
        write_later(lambda: done.append(2))
        finish_writes()

    assert done == [1, 2]
    (record,) = caplog.records
    assert record.getMessage() == "A file could not be written in the background"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_forked_child_leaves_the_parents_work_to_it() -> None:
    done: list[int] = []
    gate = threading.Event()
    write_later(lambda: done.append(gate.wait(60)))
    child = os.fork()
    if not child:
        finish_writes()
        os._exit(7 if not done else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    gate.set()
    finish_writes()
    assert done == [True]
