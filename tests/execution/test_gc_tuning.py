from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest

from pllm_notebook.execution.gc_tuning import RELAXED_THRESHOLD, RelaxedGc

OWN = (611, 7, 9)


@pytest.fixture(autouse=True)
def own_thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*OWN)
    yield
    gc.set_threshold(*before)


def test_while_something_is_at_work_the_first_threshold_is_ours_and_then_what_it_was() -> None:
    collector = RelaxedGc()

    with collector:
        during = gc.get_threshold()

    assert during == (RELAXED_THRESHOLD, 7, 9)
    assert gc.get_threshold() == OWN


def test_an_exception_puts_back_what_was_there() -> None:
    collector = RelaxedGc()

    with pytest.raises(ValueError, match="mine"), collector:
        raise ValueError("mine")

    assert gc.get_threshold() == OWN


def test_the_last_of_several_puts_back_what_the_first_found() -> None:
    collector = RelaxedGc()

    collector.begin()
    collector.begin()
    collector.end()
    while_one_is_left = gc.get_threshold()
    collector.end()

    assert while_one_is_left == (RELAXED_THRESHOLD, 7, 9)
    assert gc.get_threshold() == OWN


def test_threads_that_begin_and_end_at_once_leave_what_was_there() -> None:
    collector = RelaxedGc()
    together = threading.Barrier(8)

    def work() -> None:
        together.wait()
        for _ in range(500):
            with collector:
                assert gc.get_threshold()[0] == RELAXED_THRESHOLD

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert repr(collector) == "RelaxedGc(at_work=0, before=None)"
    assert gc.get_threshold() == OWN


def test_thresholds_that_somebody_sets_meanwhile_stay() -> None:
    collector = RelaxedGc()

    with collector:
        gc.set_threshold(1234, 5, 6)

    assert gc.get_threshold() == (1234, 5, 6)


@pytest.mark.parametrize("theirs", [(0, 7, 9), (RELAXED_THRESHOLD * 2, 7, 9)], ids=["none", "more"])
def test_no_threshold_of_a_user_is_lowered_nor_collecting_switched_on(theirs: tuple[int, int, int]) -> None:
    gc.set_threshold(*theirs)
    collector = RelaxedGc()

    with collector:
        during = gc.get_threshold()

    assert during == theirs
    assert gc.get_threshold() == theirs


def test_collecting_that_a_user_switched_off_stays_off() -> None:
    collector = RelaxedGc()
    gc.disable()

    try:
        with collector:
            during = gc.isenabled()
        after = gc.isenabled()
    finally:
        gc.enable()

    assert (during, after) == (False, False)
    assert gc.get_threshold() == OWN


def test_cycles_of_a_user_are_collected_while_something_is_at_work() -> None:
    freed = []

    class Ring:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            freed.append(1)

    with RelaxedGc():
        for _ in range(2 * RELAXED_THRESHOLD):
            Ring()

    assert freed


def test_a_child_has_what_was_there_before_its_parents_work() -> None:
    from pllm_notebook.execution.gc_tuning import relaxed_gc

    with relaxed_gc():
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.get_threshold() == OWN else 1)
        _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
