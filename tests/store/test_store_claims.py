"""Claims: one owner a key, for as long as its lease holds."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from pllm_notebook.store.claims import FILE, LEASE_S, SENDER_LEASE_S, Claims


class Clock:
    """A wall clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def claims(directory: Path, clock: Clock) -> Claims:
    """Claims as another process would have them: owners of their own."""
    return Claims(str(directory), wall_clock=clock)


def test_a_key_is_granted_to_one_owner(tmp_path: Path, clock: Clock) -> None:
    one, other = claims(tmp_path, clock), claims(tmp_path, clock)

    first = one.take("live", ["a", "b"])
    second = other.take("live", ["b", "c"])

    assert first.granted == {"a", "b"}
    assert second.granted == {"c"}


def test_live_and_batch_calls_of_one_process_are_two_owners(tmp_path: Path, clock: Clock) -> None:
    one = claims(tmp_path, clock)

    one.take("batch", ["a"])

    assert one.take("live", ["a", "b"]).granted == {"b"}


def test_a_released_key_is_free_and_the_mark_tells_that_its_answer_may_be_there(tmp_path: Path, clock: Clock) -> None:
    one, other = claims(tmp_path, clock), claims(tmp_path, clock)
    other.take("live", ["z"])
    one.take("live", ["a"])
    before = other.mark("live")

    one.release("live", ["a"])
    after = other.take("live", ["a"])

    assert after.granted == {"a"}
    assert after.mark != before
    assert after.mark._replace(live=0) == before._replace(live=0)


def test_a_key_that_two_runs_of_a_process_hold_is_free_when_both_have_released_it(tmp_path: Path, clock: Clock) -> None:
    one, other = claims(tmp_path, clock), claims(tmp_path, clock)
    one.take("live", ["a"])
    one.take("live", ["a"])

    one.release("live", ["a"])
    while_one_holds = other.take("live", ["a"])
    one.release("live", ["a"])

    assert while_one_holds.granted == frozenset()
    assert other.take("live", ["a"]).granted == {"a"}


def test_the_claims_of_a_dead_process_are_free_when_its_lease_has_ended(tmp_path: Path, clock: Clock) -> None:
    dead, other = claims(tmp_path, clock), claims(tmp_path, clock)
    dead.take("live", ["a"])
    before = other.take("live", ["a"])

    clock.now += LEASE_S - 0.1
    still = other.take("live", ["a"])
    clock.now += 0.2
    after = other.take("live", ["a"])

    assert (before.granted, still.granted, after.granted) == (frozenset(), frozenset(), {"a"})
    assert after.mark.expired > before.mark.expired


def test_a_renewed_lease_holds(tmp_path: Path, clock: Clock) -> None:
    one, other = claims(tmp_path, clock), claims(tmp_path, clock)
    one.take("live", ["a"])

    for _ in range(10):
        clock.now += LEASE_S - 1
        one.renew()

    assert other.take("live", ["a"]).granted == frozenset()


def test_a_lease_is_prolonged_by_what_is_claimed_while_it_holds(tmp_path: Path, clock: Clock) -> None:
    one, other = claims(tmp_path, clock), claims(tmp_path, clock)
    one.take("live", ["a"])
    clock.now += 0.9 * LEASE_S
    one.take("live", ["b"])

    clock.now += 0.5 * LEASE_S

    assert other.take("live", ["a", "b"]).granted == frozenset()


def test_what_is_claimed_within_a_moment_of_a_lease_holds_for_nearly_all_of_it(tmp_path: Path, clock: Clock) -> None:
    one, other = claims(tmp_path, clock), claims(tmp_path, clock)
    one.take("live", ["a"])
    clock.now += LEASE_S / 10
    one.take("live", ["b"])

    clock.now += 0.85 * LEASE_S

    assert other.take("live", ["a", "b"]).granted == frozenset()


def test_a_lease_that_was_written_under_another_clock_does_not_hold_for_ever(tmp_path: Path, clock: Clock) -> None:
    one, other = claims(tmp_path, clock), claims(tmp_path, clock)
    clock.now += 10**6
    one.take("live", ["a"])
    clock.now -= 10**6

    assert other.take("live", ["a"]).granted == {"a"}


def test_claims_are_granted_where_the_system_gives_no_thread_to_renew_them(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    one = claims(tmp_path, clock)

    assert one.take("live", ["a"]).granted == {"a"}
    assert one.take("live", ["b"]).granted == {"b"}
    one.close()


def test_closing_gives_everything_back(tmp_path: Path, clock: Clock) -> None:
    one, other = claims(tmp_path, clock), claims(tmp_path, clock)
    one.take("live", ["a"])

    one.close()

    assert other.take("live", ["a"]).granted == {"a"}


def test_a_mark_makes_no_file(tmp_path: Path, clock: Clock) -> None:
    claims(tmp_path, clock).mark("live")

    assert not (tmp_path / FILE).exists()


def test_the_file_is_its_owners_alone(tmp_path: Path, clock: Clock) -> None:
    claims(tmp_path, clock).take("live", ["a"])

    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_made_again_and_what_is_held_stays_held(tmp_path: Path, clock: Clock) -> None:
    one, other = claims(tmp_path, clock), claims(tmp_path, clock)
    one.take("live", ["a"])
    other.take("live", ["z"])
    (tmp_path / FILE).write_bytes(b"not a database" * 1000)
    for end in ("-wal", "-shm"):
        (tmp_path / f"{FILE}{end}").unlink(missing_ok=True)

    third = claims(tmp_path, clock)
    third.take("live", ["c"])
    one.renew()
    other.renew()

    assert third.take("live", ["a", "z", "y"]).granted == {"y"}


def test_a_file_that_cannot_be_used_grants_everything_and_says_so_once(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).mkdir()
    one = claims(tmp_path, clock)

    granted = [one.take("live", ["a"]).granted for _ in range(3)]

    assert granted == [{"a"}] * 3
    assert caplog.text.count("may pay for them too") == 1


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path, clock: Clock) -> None:
    with sqlite3.connect(tmp_path / FILE) as later:
        later.execute("PRAGMA user_version = 99")
    later.close()

    granted = claims(tmp_path, clock).take("live", ["a"]).granted

    with sqlite3.connect(tmp_path / FILE) as later:
        assert later.execute("PRAGMA user_version").fetchone() == (99,)
    later.close()
    assert granted == {"a"}


def test_a_child_of_a_fork_is_an_owner_of_its_own(tmp_path: Path, clock: Clock) -> None:
    parent = claims(tmp_path, clock)
    parent.take("live", ["a"])
    reading, writing = os.pipe()

    pid = os.fork()
    if not pid:
        granted = parent.take("live", ["a", "b"]).granted
        os.write(writing, ",".join(sorted(granted)).encode())
        os._exit(0)
    os.waitpid(pid, 0)

    assert os.read(reading, 10) == b"b"
    assert parent.take("live", ["b"]).granted == frozenset()  # until the child's lease ends
    os.close(reading)
    os.close(writing)


def test_processes_that_send_within_the_same_limits_are_counted(tmp_path: Path) -> None:
    now = [1000.0]
    one, other = (Claims(str(tmp_path), wall_clock=lambda: now[0]) for _ in range(2))

    assert one.count_senders("luna @a") == 1
    assert other.count_senders("luna @a") == 2
    assert other.count_senders("another model") == 1
    assert one.count_senders("luna @a") == 2
    other.stop_sending("luna @a")
    assert one.count_senders("luna @a") == 1
    one.close()
    assert other.count_senders("luna @a") == 1
    other.close()


def test_a_killed_process_is_counted_for_seconds(tmp_path: Path) -> None:
    now = [1000.0]
    killed, alive = (Claims(str(tmp_path), wall_clock=lambda: now[0]) for _ in range(2))
    killed.count_senders("luna @a")

    now[0] += SENDER_LEASE_S - 0.1
    assert alive.count_senders("luna @a") == 2
    now[0] += 0.2
    assert alive.count_senders("luna @a") == 1
    alive.close()
