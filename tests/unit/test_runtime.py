"""The one place of what belongs to the process: made once, closed in order, forgotten, and whole after a fork."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pllm_notebook.runtime import RUNTIME, ExitStage, Locked, Runtime, Slot


def test_a_value_is_made_on_first_use_and_once_whatever_threads_ask() -> None:
    made: list[int] = []
    together = threading.Barrier(8)
    slot: Slot[list[int]] = Slot("n", lambda: made.append(1) or made, runtime=Runtime())  # type: ignore[func-returns-value]

    def ask(_: int) -> list[int]:
        together.wait(60)
        return slot.value

    assert not slot.is_filled
    with ThreadPoolExecutor(8) as threads:
        values = list(threads.map(ask, range(8)))

    assert made == [1]
    assert all(value is made for value in values)


def test_parts_are_closed_stage_by_stage_and_only_those_that_were_used() -> None:
    runtime, closed = Runtime(), list[str]()
    for name, stage in (("stores", ExitStage.STORES), ("engine", ExitStage.RUNS), ("writes", ExitStage.WRITERS)):
        Slot(name, lambda name=name: name, close=closed.append, stage=stage, runtime=runtime).value  # type: ignore[misc]  # noqa: B018
    Slot("unused", str, close=closed.append, runtime=runtime)

    runtime.close()

    assert closed == ["engine", "writes", "stores"]


def test_what_cannot_be_closed_keeps_nothing_else_open() -> None:
    runtime, closed = Runtime(), list[str]()

    def refuse(value: str) -> None:
        raise OSError(value)

    Slot("first", lambda: "a disk", close=refuse, runtime=runtime).value  # noqa: B018
    Slot("second", lambda: "b", close=closed.append, runtime=runtime).value  # noqa: B018

    with pytest.raises(ExceptionGroup) as caught:
        runtime.reset()

    assert closed == ["b"]
    assert [str(error) for error in caught.value.exceptions] == ["a disk"]


def test_a_reset_forgets_all_but_what_is_kept() -> None:
    runtime, closed = Runtime(), list[object]()
    learned: Slot[dict[str, int]] = Slot("learned", dict, close=closed.append, runtime=runtime)
    registered: Slot[dict[str, int]] = Slot("registered", dict, close=closed.append, is_kept=True, runtime=runtime)
    learned.value["a"] = registered.value["a"] = 1

    runtime.reset()

    assert closed == [{"a": 1}]
    assert (learned.value, registered.value) == ({}, {"a": 1})


def test_a_module_that_is_loaded_again_finds_its_values() -> None:
    runtime = Runtime()
    Slot[list[int]]("n", list, runtime=runtime).value.append(1)

    assert Slot[list[int]]("n", list, runtime=runtime).value == [1]


def test_a_lock_whose_holder_does_not_exist_in_a_forked_child_is_free_there() -> None:
    shared = Locked()

    with shared.lock:
        child = os.fork()
        if child == 0:  # pragma: no cover  # another process
            os._exit(0 if shared.lock.acquire(timeout=5) and not RUNTIME.is_exiting else 1)
        status = os.waitpid(child, 0)[1]

    assert os.waitstatus_to_exitcode(status) == 0


class _Database:
    """Something in whose changes no fork may happen."""

    def __init__(self) -> None:
        self.change_lock = threading.Lock()

    def reset_after_fork(self) -> None:
        self.change_lock = threading.Lock()


def test_a_fork_waits_for_a_change_and_lets_the_next_begin() -> None:
    runtime, database = Runtime(), _Database()
    runtime.register_fork_aware(database)

    runtime.before_fork()
    assert database.change_lock.locked()
    runtime.after_fork_in_parent()

    assert not database.change_lock.locked()
