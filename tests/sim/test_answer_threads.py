from __future__ import annotations

import threading

from pllm_notebook.sim.answer_threads import AnswerThreads


def test_stuck_work_never_keeps_later_work_waiting():
    threads = AnswerThreads(2)
    stuck, done = threading.Event(), threading.Event()

    for _ in range(2):
        threads.submit(stuck.wait)
    threads.submit(done.set)

    assert done.wait(60)
    stuck.set()
    threads.close()


def test_threads_are_reused_and_outlive_what_their_work_raises():
    threads = AnswerThreads(64)
    seen: list[threading.Thread] = []

    def fail() -> None:
        seen.append(threading.current_thread())
        raise SystemExit

    for _ in range(50):
        threads.submit(fail)
        over = threading.Event()
        threads.submit(over.set)
        assert over.wait(60)

    # A few at most: one that is free only a moment later, on a busy machine, gets another beside it.
    assert len(set(seen)) < 50
    assert all(thread.daemon for thread in seen)
    threads.close()


def test_after_closing_work_is_dropped():
    threads = AnswerThreads(1)
    threads.close()
    done = threading.Event()

    threads.submit(done.set)

    assert not done.is_set()
