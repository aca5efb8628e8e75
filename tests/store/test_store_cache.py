"""The store in use: order, durability, threads, processes, forks and kills."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from store_cases import SteppingClock, entry, execute, fill, held_by, key, parts, python

from pllm_notebook.exceptions import StoreError
from pllm_notebook.store import DiskStore


def test_what_was_put_is_read_by_another_opening(store: DiskStore, path: Path) -> None:
    fill(store, range(50))
    store.close()

    again = DiskStore(str(path))

    assert held_by(again, range(60)) == set(range(50))
    again.close()


def test_more_keys_than_one_query_takes_are_all_found(store: DiskStore) -> None:
    fill(store, range(12_000))

    assert len(store.get_many([key(number) for number in range(12_500)])) == 12_000
    assert store.get_many([]) == {}


def test_done_is_called_in_order_and_after_the_commit(store: DiskStore, path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def done(number: int, error: BaseException | None) -> None:
        assert error is None
        # Another connection, as another process has it: it sees only what is committed.
        rows = execute(path, "SELECT count(*) FROM Cache WHERE key = ?", key(number))
        seen.append((number, rows[0][0]))

    for number in range(100):
        store.put(key(number), entry(number), lambda error, number=number: done(number, error))
    store.flush()

    assert seen == [(number, 1) for number in range(100)]


def test_a_second_entry_replaces_the_first(store: DiskStore) -> None:
    fill(store, [1])
    store.put(key(1), entry(2), lambda error: None)
    store.flush()

    assert parts(store.get_many([key(1)])[key(1)]) == parts(entry(2))
    assert len(list(store.iterate())) == 1


def test_the_backlog_counts_what_is_not_yet_on_disk(path: Path) -> None:
    clock = SteppingClock()
    store = DiskStore(str(path), clock=clock, busy_timeout_s=0)
    blocker = sqlite3.connect(path / "answers/cache.db", isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    seen: list[int] = []
    clock.on_pause = lambda: (seen.append(store.backlog_bytes), blocker.in_transaction and blocker.execute("ROLLBACK"))

    fill(store, [1])

    assert max(seen) > len(entry(1).raw)
    assert store.backlog_bytes == 0
    store.close()
    blocker.close()


def test_a_lock_of_another_program_delays_the_write_and_no_more(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = SteppingClock()
    store = DiskStore(str(path), clock=clock, busy_timeout_s=0)
    blocker = sqlite3.connect(path / "answers/cache.db", isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")

    def unlock_at_ten() -> None:
        if clock.now() > 10 and blocker.in_transaction:
            blocker.execute("ROLLBACK")

    clock.on_pause = unlock_at_ten
    fill(store, range(5))

    assert held_by(store, range(5)) == set(range(5))
    assert "cannot be written now: database is locked" in caplog.text
    assert "The cache can be written again." in caplog.text
    store.close()
    blocker.close()


def test_a_lock_that_stays_is_told_after_a_bounded_time_and_later_groups_are_told_at_once(path: Path) -> None:
    clock = SteppingClock()
    store = DiskStore(str(path), clock=clock, busy_timeout_s=0, patience_s=60)
    blocker = sqlite3.connect(path / "answers/cache.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    errors: list[BaseException | None] = []

    store.put(key(0), entry(0), errors.append)
    store.flush()
    waited_s = clock.now()
    store.put(key(1), entry(1), errors.append)
    store.flush()

    assert [type(error) for error in errors] == [StoreError, StoreError]
    assert "database is locked" in str(errors[0])
    assert "asking again would pay again" in str(errors[0])
    assert 60 <= waited_s <= 70
    assert clock.now() <= waited_s + 2
    blocker.execute("ROLLBACK")
    fill(store, [2])
    assert held_by(store, range(3)) == {2}
    store.close()
    blocker.close()


def test_a_full_disk_keeps_the_answers_until_there_is_space(path: Path) -> None:
    clock = SteppingClock()
    store = DiskStore(str(path), clock=clock)
    full = threading.Event()
    full.set()
    real = store._current.database.write

    def write(rows: list[tuple[str, bytes]]) -> tuple[int, int]:
        # SQLite's own answer to a full disk: it needs no full disk, only a file that may not grow.
        if full.is_set():
            pages = store._current.database.execute("PRAGMA page_count").fetchone()[0]
            store._current.database.execute(f"PRAGMA max_page_count = {pages}")
        else:
            store._current.database.execute("PRAGMA max_page_count = 1000000")
        return real(rows)

    store._current.database.write = write
    clock.on_pause = lambda: full.clear() if clock.now() > 20 else None
    fill(store, range(500))

    assert held_by(store, range(500)) == set(range(500))
    assert clock.now() > 20
    store.close()


def test_deleting_the_directory_in_use_loses_nothing_that_comes_after(
    store: DiskStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, range(3))
    shutil.rmtree(path)

    fill(store, range(3, 6))

    assert "was deleted while it was in use" in caplog.text
    assert held_by(store, range(6)) == {3, 4, 5}
    assert {row[0] for row in execute(path, "SELECT key FROM Cache")} == {key(3), key(4), key(5)}


def test_a_directory_deleted_during_the_commit_is_noticed_before_done(store: DiskStore, path: Path) -> None:
    real = store._current.database.write

    def write(rows: Sequence[tuple[str, bytes]]) -> tuple[int, int]:
        result = real(rows)
        shutil.rmtree(path)
        return result

    store._current.database.write = write
    fill(store, [1])

    assert execute(path, "SELECT key FROM Cache") == [(key(1),)]


def test_reading_after_the_file_was_exchanged_reads_the_new_file(store: DiskStore, path: Path, tmp_path: Path) -> None:
    other = DiskStore(str(tmp_path / "other"))
    fill(other, [7])
    other.close()
    shutil.rmtree(path)
    (tmp_path / "other").rename(path)

    assert held_by(store, [7]) == {7}


def test_threads_write_and_read_at_once(store: DiskStore) -> None:
    def work(first: int) -> None:
        fill(store, range(first, first + 200))
        assert held_by(store, range(first, first + 200)) == set(range(first, first + 200))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 1600, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert held_by(store, range(1600)) == set(range(1600))


def test_deleting_gives_the_number_that_were_there(store: DiskStore) -> None:
    fill(store, range(5))

    assert store.delete([key(1), key(2), key(99)]) == 2
    assert held_by(store, range(5)) == {0, 3, 4}
    assert store.clear() == 3


def test_a_put_after_close_raises_and_reading_goes_on(store: DiskStore) -> None:
    fill(store, [1])
    store.close()
    store.close()

    with pytest.raises(StoreError, match="The cache is closed"):
        store.put(key(2), entry(2), lambda error: None)
    assert held_by(store, [1, 2]) == {1}


def test_after_close_one_file_holds_everything(store: DiskStore, path: Path) -> None:
    fill(store, range(20))
    store.close()

    assert not (path / "answers/cache.db-wal").exists()


def test_an_idle_writer_empties_the_wal_once(path: Path) -> None:
    clock = SteppingClock()
    store = DiskStore(str(path), clock=clock)
    tidied = threading.Event()
    real = store._current.database.checkpoint
    store._current.database.checkpoint = lambda: (real(), tidied.set())[0]

    fill(store, range(20))

    # It may have been idle between two of the groups too.
    log, until = path / "answers/cache.db-wal", time.monotonic() + 10
    while log.stat().st_size and time.monotonic() < until:
        tidied.wait(0.1)
        tidied.clear()
    assert log.stat().st_size == 0
    store.close()


def test_iterating_sees_one_moment(store: DiskStore) -> None:
    fill(store, range(10))

    rows = store.iterate()
    first = next(rows)
    fill(store, range(10, 20))

    assert [first[0], *(name for name, _ in rows)] == [key(number) for number in range(10)]


KILLED = """
import sys, threading
from store_cases import entry, key
from pllm_notebook.store import DiskStore
store = DiskStore(sys.argv[1])
free = threading.Semaphore(200)
def done(number, error):
    if error is None:
        print(number, flush=True)
    free.release()
number = 0
while free.acquire():
    store.put(key(number), entry(number), lambda error, n=number: done(n, error))
    number += 1
"""


def test_a_kill_loses_nothing_that_was_said_to_be_done(path: Path) -> None:
    child = python(KILLED, path)
    assert child.stdout is not None
    said = [int(child.stdout.readline()) for _ in range(3000)]
    os.kill(child.pid, signal.SIGKILL)
    said += [int(line) for line in child.stdout.read().split("\n")[:-1]]
    child.wait()

    store = DiskStore(str(path))

    assert held_by(store, said) == set(said)
    assert store.check()[1:] == (0, "")
    store.close()


WRITES = """
import sys
from store_cases import fill
from pllm_notebook.store import DiskStore
store = DiskStore(sys.argv[1])
print("open", flush=True)
for start in range(int(sys.argv[2]), int(sys.argv[3]), 20):
    fill(store, range(start, start + 20))
store.close()
"""


def test_processes_share_one_cache(path: Path) -> None:
    children = [python(WRITES, path, first, first + 1000) for first in (0, 1000)]

    assert [child.wait() for child in children] == [0, 0]
    store = DiskStore(str(path))
    assert held_by(store, range(2000)) == set(range(2000))
    store.close()
    for child in children:
        assert child.stdout is not None
        child.stdout.close()


def test_a_cache_can_be_opened_while_others_write_without_a_pause(path: Path) -> None:
    children = [python(WRITES, path, first, first + 10**6) for first in (0, 10**6)]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()

    for _ in range(5):
        DiskStore(str(path)).close()

    assert [child.poll() for child in children] == [None] * 2
    for child in children:
        child.kill()
        child.communicate()


FORKS = """
import os, sys, threading, weakref
from store_cases import fill, held_by
from pllm_notebook.store import open_store
store = open_store(sys.argv[1])
fill(store, range(10))
stop = threading.Event()
def busy():
    number = 100_000
    while not stop.is_set():
        fill(store, [number])
        number += 1
thread = threading.Thread(target=busy)
thread.start()
children = []
for index in range(8):
    pid = os.fork()
    if not pid:
        first = 1000 * (index + 1)
        parents = weakref.ref(store._current.database)
        ok = held_by(store, range(10)) == set(range(10)) and parents() is None
        fill(store, range(first, first + 50))
        store.close()
        os._exit(0 if ok else 1)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
stop.set()
thread.join()
fill(store, range(10, 20))
assert codes == [0] * 8, codes
"""


def test_a_forked_child_has_a_writer_of_its_own(path: Path) -> None:
    child = python(FORKS, path)

    assert child.wait(60) == 0
    store = DiskStore(str(path))
    written = [*range(20), *(1000 * index + number for index in range(1, 9) for number in range(50))]
    assert held_by(store, written) == set(written)
    assert store.check()[1:] == (0, "")
    store.close()
    assert child.stdout is not None
    child.stdout.close()


EXITS = """
import sys
from store_cases import entry, key
from pllm_notebook.store import open_store
store = open_store(sys.argv[1])
for number in range(300):
    store.put(key(number), entry(number), lambda error: None)
"""


def test_an_interpreter_that_ends_writes_what_is_queued(path: Path) -> None:
    child = python(EXITS, path)

    assert child.wait(60) == 0
    store = DiskStore(str(path))
    assert held_by(store, range(300)) == set(range(300))
    store.close()
    assert child.stdout is not None
    child.stdout.close()
