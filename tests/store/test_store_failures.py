"""Calls that failed: kept beside the answers, until they are answered, in a file of their own."""

from __future__ import annotations

import os
import pickle
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import diskcache
import pytest
from store_cases import fill, held_by, key, python

from pllm_notebook import redaction
from pllm_notebook.failures import FailedCall, Failure, FailureKind
from pllm_notebook.store import DiskStore
from pllm_notebook.store.cache_api import CacheHandle
from pllm_notebook.store.failure_log import FailureLog

REJECTED = Failure(
    FailureKind.BAD_REQUEST,
    "Too long.",
    status=400,
    raw='{"error":…}',
    attempts=1,
    request_id="req_1",
    field="messages",
)
LATE = Failure(FailureKind.TIMEOUT, "No answer.", attempts=6, cost_usd=None)


def call(number: int, failure: Failure = REJECTED, **about: object) -> FailedCall:
    plain = FailedCall(
        key(number),
        failure,
        "openai:gpt-6-luna",
        1000.0 + number,
        '{"model":"gpt-6-luna"}',
        "say a",
        number,
        "x",
        "ab",
        "text",
    )
    return replace(plain, **about)  # type: ignore[arg-type]


def told(failed: FailedCall) -> Callable[[], FailedCall]:
    return lambda: failed


def note(store: DiskStore, *calls: FailedCall) -> None:
    for failed in calls:
        store.note_failure(failed.key, told(failed))


def execute(path: Path, statement: str, *arguments: object) -> None:
    with closing(sqlite3.connect(path / "failures.db")) as connection, connection:
        connection.execute(statement, arguments)


def test_a_failure_is_read_by_another_opening_as_it_was_kept(store: DiskStore, path: Path) -> None:
    note(store, call(1), call(2, LATE, position=None))
    store.close()

    again = DiskStore(str(path))

    assert again.failures() == [call(2, LATE, position=None), call(1)]
    again.close()


def test_failures_come_newest_first_and_can_be_chosen_by_kind_and_time(store: DiskStore) -> None:
    note(store, call(1), call(2, LATE), call(3))

    assert [each.at for each in store.failures()] == [1003.0, 1002.0, 1001.0]
    assert [each.at for each in store.failures(kind="bad_request")] == [1003.0, 1001.0]
    assert [each.at for each in store.failures(since=1002.0)] == [1003.0, 1002.0]


def test_a_call_that_fails_again_has_one_line_and_is_the_newest(store: DiskStore) -> None:
    note(store, call(1), call(2))
    store.failures()

    note(store, call(1, LATE))

    assert [(each.key, each.failure.kind) for each in store.failures()] == [
        (key(1), FailureKind.TIMEOUT),
        (key(2), FailureKind.BAD_REQUEST),
    ]


def test_an_answer_takes_the_failure_of_its_call_away(store: DiskStore) -> None:
    note(store, call(1), call(2))

    fill(store, [1])

    assert [each.key for each in store.failures()] == [key(2)]


def test_an_answer_takes_away_what_another_process_has_kept(store: DiskStore, path: Path) -> None:
    other = DiskStore(str(path))
    note(other, call(1), call(2))
    other.close()

    fill(store, [1])

    assert [each.key for each in store.failures()] == [key(2)]


def test_a_failure_after_an_answer_stays(store: DiskStore) -> None:
    fill(store, [1])

    note(store, call(1))

    assert [each.key for each in store.failures()] == [key(1)]
    assert held_by(store, [1]) == {1}


def test_only_rejected_calls_are_told_as_rejected(store: DiskStore) -> None:
    note(store, call(1), call(2, LATE))

    assert set(store.rejected([key(number) for number in range(12_000)])) == {key(1)}


def test_without_failures_nothing_is_opened(store: DiskStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a database was opened")

    fill(store, range(10))
    monkeypatch.setattr("pllm_notebook.store.failure_file.sqlite3.connect", opened)

    assert store.rejected([key(1)]) == {}
    assert not (path / "failures.db").exists()


def test_a_list_without_rejected_calls_is_read_once(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    note(store, call(2, LATE))
    store.rejected([key(1)])

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a database was opened")

    monkeypatch.setattr("pllm_notebook.store.failure_file.sqlite3.connect", opened)

    assert store.rejected([key(2)]) == {}


def test_the_oldest_are_let_go_beyond_the_number(tmp_path: Path) -> None:
    log = FailureLog(str(tmp_path), busy_timeout_s=1.0, max_rows=10)
    for number in range(25):
        log.note(key(number), told(call(number)))

    assert [each.position for each in log.newest_first()] == list(range(24, 14, -1))
    log.close()


def test_the_oldest_are_let_go_beyond_the_size(tmp_path: Path) -> None:
    log = FailureLog(str(tmp_path), busy_timeout_s=1.0, max_bytes=200_000)
    for number in range(100):
        log.note(key(number), told(call(number, body="x" * 9_000)))

    kept = [each.position for each in log.newest_first()]

    assert kept == list(range(99, 99 - len(kept), -1))
    assert 5 < len(kept) < 25
    log.close()


def test_texts_are_bounded(store: DiskStore) -> None:
    note(store, call(1, replace(REJECTED, raw="r" * 50_000), body="b" * 50_000, prompt="p" * 50_000))

    (kept,) = store.failures()

    assert [len(text) for text in (kept.failure.raw, kept.body, kept.prompt)] == [10_001, 10_001, 201]


def test_no_key_reaches_the_disk(store: DiskStore, path: Path) -> None:
    redaction.add_secret("canary+value/1")
    secrets = [
        "canary+value/1",
        "canary%2Bvalue%2F1",
        "sk-proj-canaryshape",
        "AIzaCanaryCanary",
        "Bearer canarybearer1",
    ]
    text = "x" * 9_990 + " " + " ".join(secrets)

    note(
        store,
        call(1, replace(REJECTED, message=text, raw=text, field=text[9_900:]), body=text, prompt=" ".join(secrets)),
    )
    store.close()

    written = b"".join(file.read_bytes() for file in path.iterdir() if file.is_file())
    assert b"canary" not in written.lower()


def test_half_a_surrogate_pair_is_kept_as_what_a_database_takes(store: DiskStore) -> None:
    note(store, call(1, prompt="half \ud800"))

    assert store.failures()[0].prompt == "half ?"


def test_a_failure_that_cannot_be_told_loses_itself_alone(store: DiskStore, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> FailedCall:
        raise ValueError("no prompt")

    store.note_failure(key(1), broken)
    note(store, call(2))

    assert [each.key for each in store.failures()] == [key(2)]
    assert "could not be added to the list" in caplog.text


def test_clear_forgets_failures_too(store: DiskStore, path: Path) -> None:
    fill(store, range(5))
    note(store, *(call(number, body="x" * 9000) for number in range(5, 50)))
    store.failures()
    before = os.path.getsize(path / "failures.db")

    assert CacheHandle(lambda: store).clear() == 5
    assert store.failures() == []
    assert os.path.getsize(path / "failures.db") < before / 4


@pytest.mark.parametrize(
    ("chosen", "left"),
    [({"model": "gpt-6-luna"}, {3}), ({"older_than": timedelta(seconds=7)}, {3}), ({"model": "other"}, {1, 2})],
)
def test_clear_of_some_takes_their_failures(store: DiskStore, chosen: dict[str, object], left: set[int]) -> None:
    note(store, call(1), call(2), call(3, model="mine:other"))

    CacheHandle(lambda: store, wall_clock=lambda: 1009.0).clear(**chosen)  # type: ignore[arg-type]

    assert {each.position for each in store.failures()} == left


def test_clear_by_age_takes_a_timedelta(store: DiskStore) -> None:
    note(store, call(1))

    CacheHandle(lambda: store, wall_clock=lambda: 1009.0).clear(older_than=timedelta(hours=1))

    assert len(store.failures()) == 1


def test_the_files_are_their_owners_alone(store: DiskStore, path: Path) -> None:
    note(store, call(1))
    store.failures()

    assert stat.S_IMODE(os.stat(path / "failures.db").st_mode) == 0o600


@pytest.mark.parametrize("damage", [b"no database at all" * 300, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_list_is_set_aside_and_the_answers_are_not_touched(
    store: DiskStore, path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, [7])
    note(store, call(1))
    store.close()
    (path / "failures.db").write_bytes(damage)

    again = DiskStore(str(path))

    assert again.failures() == []
    note(again, call(2))
    assert [each.key for each in again.failures()] == [key(2)]
    assert held_by(again, [7]) == {7}
    assert caplog.text.count("was set aside as failures.db.damaged-") == 1
    assert [file.read_bytes() for file in path.glob("failures.db.damaged-*")] == [damage]
    again.close()


def test_a_damaged_cache_loses_no_failures(store: DiskStore, path: Path) -> None:
    fill(store, [7])
    note(store, call(1))
    store.close()
    (path / "answers/cache.db").write_bytes(b"damage" * 2000)

    again = DiskStore(str(path))

    assert list(path.glob("answers/cache.db.damaged-*"))
    assert again.failures() == [call(1)]
    again.close()


class Planted:
    """A pickle that says so when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("told", pickle.dumps(Planted())),
        ("told", b"{}"),
        ("told", b'{"status": "x"}'),
        ("told", "text"),
        ("kind", "no kind"),
        ("model", b"\xff\xfe"),
        ("at", "soon"),
    ],
)
def test_a_forged_row_is_left_out_and_nothing_of_it_is_run(
    store: DiskStore, path: Path, column: str, value: object
) -> None:
    note(store, call(1), call(2))
    store.failures()

    execute(path, f"UPDATE failures SET {column} = ? WHERE key = ?", value, key(2))

    assert [each.key for each in store.failures()] == [key(1)]
    assert not Path("was-run").exists()


def test_a_list_of_a_later_version_is_left_alone(
    store: DiskStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    note(store, call(1))
    store.failures()
    execute(path, "PRAGMA user_version = 2")
    before = (path / "failures.db").read_bytes()

    note(store, call(2))

    assert store.failures() == []
    assert (path / "failures.db").read_bytes() == before
    assert caplog.text.count("a later version of pllm_notebook wrote it") == 1


def test_a_list_that_cannot_be_written_keeps_no_answer_from_being_kept(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskStore(str(path), busy_timeout_s=0.05)
    note(store, call(1))
    store.failures()
    with closing(sqlite3.connect(path / "failures.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        note(store, call(2))
        fill(store, [2])
        assert held_by(store, [2]) == {2}
        store.failures()

    assert "could not be written: database is locked" in caplog.text
    assert store.rejected([key(1)]) == {key(1): call(1)}
    store.close()


def test_plain_diskcache_opens_the_directory_as_before(store: DiskStore, path: Path) -> None:
    fill(store, [1])
    note(store, call(1), call(2))
    store.close()

    with diskcache.Cache(str(path / "answers")) as plain:
        assert list(plain) == [key(1)]

    again = DiskStore(str(path))
    assert again.failures() == [call(2), call(1)]
    again.close()


def test_a_deleted_directory_is_made_anew(store: DiskStore, path: Path) -> None:
    note(store, call(1))
    store.failures()
    (path / "failures.db").unlink()

    note(store, call(2))

    assert [each.key for each in store.failures()] == [key(2)]


def test_a_closed_store_takes_no_failures_and_leaves_no_thread(path: Path) -> None:
    before = set(threading.enumerate())
    store = DiskStore(str(path))
    note(store, call(1))
    store.failures()
    store.close()

    note(store, call(2))

    own = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("pllm-store")]
    for thread in own:
        thread.join(60)
    assert not any(thread.is_alive() for thread in own)
    assert not list(path.glob("failures.db-*"))


def test_what_is_queued_at_the_end_of_the_process_is_written(path: Path, store: DiskStore) -> None:
    child = python(
        "from pllm_notebook.failures import FailedCall, Failure, FailureKind\n"
        "from pllm_notebook.store import open_store\n"
        "call = FailedCall('k', Failure(FailureKind.SERVER, 'm'), 'mine:m', 1.0)\n"
        f"open_store({str(path)!r}).note_failure('k', lambda: call)\n"
    )

    assert child.wait() == 0
    assert [each.key for each in store.failures()] == ["k"]


def test_a_forked_child_writes_what_it_met_and_its_parent_what_it_had_queued(store: DiskStore) -> None:
    note(store, call(1))

    child = os.fork()
    if not child:
        try:
            note(store, call(2))
            store.failures()
        finally:
            os._exit(0)
    os.waitpid(child, 0)

    assert {each.key for each in store.failures()} == {key(1), key(2)}


def test_a_reply_that_is_valid_now_is_no_failure_any_more(store: DiskStore) -> None:
    fill(store, [1, 2, 3])
    note(store, call(1, replace(LATE, kind=FailureKind.SCHEMA)), call(2, replace(LATE, kind=FailureKind.INVALID_JSON)))
    note(store, call(3))

    store.note_valid([key(number) for number in range(6_000)])

    assert [each.key for each in store.failures()] == [key(3)]
