"""How the writer gathers entries into groups, without a clock that runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from store_cases import SteppingClock, entry

from pllm_notebook.store.writer import GROUP_ENTRIES, LINGER_S, Clock, Writer


class Commits:
    """Keep the keys of each group that was committed."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []

    def __call__(self, rows: Sequence[tuple[str, bytes]]) -> None:
        self.groups.append([key for key, _ in rows])


class StoppedClock(Clock):
    """Time that stands still: a wait ends by a notice alone."""

    def now(self) -> float:
        return 0.0

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        condition.wait()


@pytest.fixture
def commits() -> Commits:
    return Commits()


def writer_on(clock: Clock, commits: Commits) -> Writer:
    return Writer(commits, idle=lambda: None, ended=lambda: None, clock=clock)


def test_what_comes_while_the_first_entry_lingers_is_committed_with_it(commits: Commits) -> None:
    clock = SteppingClock()
    writer = writer_on(clock, commits)
    written = threading.Event()
    late = ["late 0", "late 1"]

    def come() -> None:
        while late:
            writer.put(late.pop(0), entry(), lambda error: written.set())

    clock.on_pause = come
    writer.put("first", entry(), lambda error: None)
    assert written.wait(60)
    writer.close()

    assert commits.groups == [["first", "late 0", "late 1"]]
    assert clock.pauses[0] == LINGER_S <= 0.01


def test_nothing_lingers_while_somebody_waits_for_it(commits: Commits) -> None:
    writer = writer_on(StoppedClock(), commits)

    for key in ("a", "b"):
        writer.put(key, entry(), lambda error: None)
        writer.flush()
    writer.put("c", entry(), lambda error: None)
    writer.close()

    assert commits.groups == [["a"], ["b"], ["c"]]


def test_a_full_group_does_not_linger(commits: Commits) -> None:
    writer = writer_on(StoppedClock(), commits)
    written = threading.Event()

    for n in range(GROUP_ENTRIES):
        writer.put(str(n), entry(), lambda error: None if commits.groups == [] else written.set())

    assert written.wait(60)
    assert commits.groups == [[str(n) for n in range(GROUP_ENTRIES)]]
    writer.close()


def test_an_answer_is_written_where_the_system_gives_no_thread(
    commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer, said = writer_on(Clock(), commits), list[BaseException | None]()

    writer.put("first", entry(), said.append)
    writer.put("second", entry(), said.append)
    writer.flush()
    writer.close()

    assert commits.groups == [["first"], ["second"]]
    assert said == [None, None]
    assert writer.backlog_bytes == 0
