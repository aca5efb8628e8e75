"""One changed byte anywhere in any file of the cache: no wrong answer, one line, mended once.

`PLLM_DAMAGE=5000` makes so many changes (`make damage`); 150 are made otherwise. One seed decides all of it.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import random
import shutil
import sqlite3
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from pllm_notebook.batch import Journal, JournalDamagedError, LineOutcome
from pllm_notebook.exceptions import StoreError
from pllm_notebook.failures import FailedCall, Failure, FailureKind
from pllm_notebook.store import DiskStore, Label, LabelFile
from pllm_notebook.store.cache_api import CacheHandle
from pllm_notebook.store.claims import FILE, Claims
from pllm_notebook.store.failure_log import FailureLog
from pllm_notebook.store.run_files import RunFiles
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish
from tests.batch.modelled import LIMITS, PLAN, outgoing

CHANGES = int(os.environ.get("PLLM_DAMAGE", "150"))
pytestmark = pytest.mark.timeout(max(120, CHANGES))
ROWS, DELETED = 150, 60
PAGE = 4096
# A page holds about 80 keys of the index, or 30 rows; one changed byte hides no more than those.
MOST_HIDDEN = 80


def share(of: float) -> int:
    return max(10, int(CHANGES * of))


def key(number: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(str(number).encode()).digest()).decode().rstrip("=")


def entry(number: int) -> StoredReply:
    draw = random.Random(number)
    meta = {"usage": [9, 3, 0, 0, 0], "cost_usd": 0.5, "model": "m", "created_at": 1000.0 + number}
    text = orjson.dumps({"answer": number})
    return StoredReply(Finish.COMPLETE, text, 3, 0, orjson.dumps(meta), draw.randbytes(draw.choice((100, 900, 9000))))


def parts(one: StoredReply) -> tuple[object, ...]:
    return one.finish, one.text, one.output_tokens, one.output_limit, one.meta, one.raw


KEYS = [key(number) for number in range(ROWS)]
ENTRIES = {key(number): entry(number) for number in range(ROWS)}


def put(store: DiskStore, keys: Iterator[str] | list[str]) -> None:
    errors: list[BaseException | None] = []
    for one in keys:
        store.put(one, ENTRIES[one], errors.append)
    store.flush()
    assert not any(errors), errors


def kinds_of_pages(path: Path) -> dict[str, list[int]]:
    """The pages of a database by what they are; those of no tree hold what overflows, or are free."""
    names = {2: "index, inside", 5: "table, inside", 10: "index, leaf", 13: "table, leaf"}
    found = defaultdict(list)
    data = path.read_bytes()
    for page in range(len(data) // PAGE):
        found[names.get(data[page * PAGE], "overflow and free") if page else "first"].append(page)
    return found


def change(path: Path, draw: random.Random, start: int = 0, length: int | None = None) -> None:
    """Change one byte of a file to another one."""
    with path.open("r+b") as file:
        size = path.stat().st_size - start if length is None else length
        at = start + draw.randrange(size)
        file.seek(at)
        (old,) = file.read(1)
        file.seek(at)
        file.write(bytes([old ^ draw.randrange(1, 256)]))


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Where a file is on disk at once: thousands of caches are made and closed here."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What a person is told."""
    lines: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("pllm_notebook.store"), Listening(logging.WARNING)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[Path], Path]:
    """Copy a cache directory, in place of the copy before."""

    def copied(kept: Path) -> Path:
        directory = tmp_path / "cache"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(kept, directory)
        return directory

    return copied


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A cache with free pages, closed."""
    directory = tmp_path / "kept"
    store = DiskStore(str(directory))
    for number in range(ROWS, ROWS + DELETED):
        ENTRIES[key(number)] = entry(number)
    put(store, list(ENTRIES))
    store.delete([key(number) for number in range(ROWS, ROWS + DELETED)])
    for number in range(ROWS, ROWS + DELETED):
        del ENTRIES[key(number)]
    store.close()
    return directory


def use(directory: Path) -> int:
    """Read all, ask for what is not there, and give how many those were."""
    store = DiskStore(str(directory))
    found = store.get_many(KEYS)
    assert all(parts(one) == parts(ENTRIES[name]) for name, one in found.items())
    lacking = [name for name in KEYS if name not in found]
    put(store, lacking)
    assert len(store.get_many(KEYS)) == ROWS
    assert len(store.keys_beginning([name[:20] for name in KEYS])) == ROWS
    info = CacheHandle(lambda: store).info()
    assert info.entries >= ROWS
    store.close()
    return len(lacking)


def test_a_changed_byte_of_the_answers_costs_what_it_hit_and_no_answer_is_wrong(
    kept: Path, damaged: Callable[[Path], Path], said: list[str]
) -> None:
    pages = kinds_of_pages(kept / "answers/cache.db")
    assert len(pages) == 6, dict(pages)
    silent = 0
    for seed in range(share(0.5)):
        draw = random.Random(seed)
        directory = damaged(kept)
        kind = sorted(pages)[seed % len(pages)]
        page = draw.choice(pages[kind])
        # Every second one in the head, which says where everything is.
        head = 100 if kind == "first" else 12
        change(directory / "answers/cache.db", draw, page * PAGE, head if draw.random() < 0.5 else PAGE)
        said.clear()

        lost = use(directory)
        lines = list(said)
        again = use(directory)

        told = f"seed {seed}, {kind} page {page}: {lost} lost, then {again}; {lines}, then {said[len(lines) :]}"
        assert len(lines) <= 1, told
        assert lost <= MOST_HIDDEN, told
        # An index may hide a row, and nobody can know that it was ever there.
        assert lines or not lost or kind.startswith("index"), told
        assert again == 0, told
        assert len(said) == len(lines), told
        silent += bool(lost and not lines)
    assert silent <= share(0.5) / 4


def test_a_changed_byte_of_the_write_ahead_log_costs_the_changes_behind_it_and_is_told(
    tmp_path: Path, damaged: Callable[[Path], Path], said: list[str]
) -> None:
    store = DiskStore(str(tmp_path / "open"))
    put(store, KEYS[:50])
    store.checkpoint()
    for start in range(50, ROWS, 10):
        put(store, KEYS[start : start + 10])
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "open", kept, ignore=shutil.ignore_patterns("*-shm"))
    store.close()
    for seed in range(share(0.1)):
        directory = damaged(kept)
        change(directory / "answers/cache.db-wal", random.Random(seed))
        said.clear()

        lost = use(directory)
        told = f"seed {seed}: {lost} lost; {said}"

        assert len(said) == bool(lost), told
        assert lost <= ROWS - 50, told
        assert use(directory) == 0, told
        assert len(said) == bool(lost), told


def failed(number: int) -> FailedCall:
    kind = (FailureKind.BAD_REQUEST, FailureKind.TIMEOUT)[number % 2]
    failure = Failure(kind, f"Call {number} failed.", status=400, raw="raw " * number, attempts=1, cost_usd=None)
    return FailedCall(
        key(number), failure, "openai:gpt-6-luna", 1000.0 + number, "{}", "say", number, "x", "ab", "text"
    )


def test_a_changed_byte_of_the_failures_changes_no_failure(
    tmp_path: Path, damaged: Callable[[Path], Path], said: list[str]
) -> None:
    def write(directory: Path, number: int) -> None:
        log = FailureLog(str(directory), busy_timeout_s=1.0)
        log.note(key(number), lambda: failed(number))
        log.close()

    def read(directory: Path) -> int:
        log = FailureLog(str(directory), busy_timeout_s=1.0)
        found = {one.key: one for one in log.newest_first()} | log.rejected(KEYS)
        assert all(one == failed(int(one.failure.message.split()[1])) for one in found.values())
        assert all(name == one.key for name, one in found.items())
        log.close()
        return len(found)

    (tmp_path / "kept").mkdir()
    log = FailureLog(str(tmp_path / "kept"), busy_timeout_s=1.0)
    for number in range(60):
        log.note(key(number), lambda number=number: failed(number))  # type: ignore[misc]
    log.close()
    for seed in range(share(0.1)):
        directory = damaged(tmp_path / "kept")
        change(directory / "failures.db", random.Random(seed))
        said.clear()

        found = read(directory)
        lines = list(said)
        write(directory, 100)

        told = f"seed {seed}: {found} of 60 found; {said}"
        assert len(lines) <= 1, told
        assert read(directory) >= 1, told
        assert len(said) <= 1, told


def test_a_changed_byte_of_the_claims_keeps_nobody_from_asking(
    tmp_path: Path, damaged: Callable[[Path], Path], said: list[str]
) -> None:
    (tmp_path / "kept").mkdir()
    other = Claims(str(tmp_path / "kept"), wall_clock=lambda: 1_800_000_000.0)
    other.take("live", KEYS[:80])
    other.take("batch", KEYS[80:100])
    other._closing.set()  # nothing is to be renewed while it is copied
    connection = other._connection
    assert connection is not None
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for seed in range(share(0.1)):
        directory = damaged(tmp_path / "kept")
        change(directory / FILE, random.Random(seed))
        said.clear()

        for now in (1_800_000_000.0, 1_800_001_000.0):  # what could not be given back is free when its lease has ended
            mine = Claims(str(directory), wall_clock=lambda now=now: now)  # type: ignore[misc]
            granted = mine.take("live", KEYS).granted
            # A claim that is lost is a call that may be paid twice; one that nobody can have would never be asked.
            assert granted >= set(KEYS[100:]), seed
            mine.mark("live")
            mine.release("live", granted)
            mine.close()

        assert len(said) <= 1, f"seed {seed}: {said}"
    other.close()


def test_a_changed_byte_of_a_runs_record_costs_that_record_alone(
    tmp_path: Path, damaged: Callable[[Path], Path], said: list[str]
) -> None:
    rows = {"content": np.arange(200, dtype=np.uint64), "status": np.zeros(200, dtype=np.uint8)}
    (tmp_path / "kept").mkdir()
    files = RunFiles(str(tmp_path / "kept"))
    headers = {f"{number:08x}": {"id": f"{number:08x}", "started_at": 1e9 + number} for number in range(3)}
    for header in headers.values():
        files.write(header, rows)
    for seed in range(share(0.1)):
        directory = damaged(tmp_path / "kept")
        draw = random.Random(seed)
        hit = directory / "runs" / draw.choice(sorted(os.listdir(directory / "runs")))
        change(hit, draw)
        said.clear()
        files = RunFiles(str(directory))

        for _ in range(2):
            found = {header["id"]: files.arrays(header["id"]) for header in files.headers()}
            whole = {name: arrays for name, arrays in found.items() if arrays is not None}
            assert len(whole) == 2, seed
            for name, arrays in whole.items():
                assert files.header(name) == headers[name], seed
                assert all(np.array_equal(arrays[one], rows[one]) for one in rows), seed
        assert len(said) == 1, f"seed {seed}: {said}"


def label(number: int) -> Label:
    return Label(("text",), number * 2**57, "mood", f"value {number}", "me", 1e9 + number, "random", 0.5, "a note",
                 "run", {"text": f"cell {number}"})  # fmt: skip


def test_a_changed_byte_of_the_labels_changes_no_label_and_is_told(
    tmp_path: Path, damaged: Callable[[Path], Path], said: list[str]
) -> None:
    written = [label(number) for number in range(120)]
    (tmp_path / "kept").mkdir()
    LabelFile(str(tmp_path / "kept")).add(written)
    unseen = 0
    for seed in range(share(0.1)):
        directory = damaged(tmp_path / "kept")
        change(directory / "labels.db", random.Random(seed))
        said.clear()
        file = LabelFile(str(directory))

        try:
            found = [replace(one, id=0) for one in file.current()]
            chances = file.chances("mood")
        except StoreError:
            continue

        assert [one for one in found if one not in written] == [], seed
        assert set(chances.values()) <= {(0.5, "random")}, seed
        unseen += len(found) < len(written) and not said
    # A damaged index hides a row, and nobody can know that it was ever there.
    assert unseen <= share(0.1) / 4


def test_labels_of_an_earlier_version_are_read_and_get_a_checksum_with_the_next(tmp_path: Path) -> None:
    file = LabelFile(str(tmp_path))
    file.add([label(1)])
    with closing(sqlite3.connect(file.path)) as connection:
        connection.execute("ALTER TABLE labels DROP COLUMN crc")
        connection.commit()

    assert [replace(one, id=0) for one in file.current()] == [label(1)]
    file.add([label(2)])
    assert [replace(one, id=0) for one in file.current()] == [label(1), label(2)]


def test_a_changed_byte_of_the_journal_is_told_and_never_changes_what_waits_where(
    tmp_path: Path, damaged: Callable[[Path], Path]
) -> None:
    journal = Journal.open(str(tmp_path / "kept"), lambda: 1_800_000_000.0)
    for start in range(0, 120, 30):
        (job,) = journal.plan(PLAN, outgoing(KEYS[start : start + 30]), LIMITS).jobs
        journal.lines.settle(job.id, [(name, LineOutcome("", 0.1)) for name in KEYS[start : start + 10]])
    before = known(journal)
    journal.close()
    unseen = 0
    for seed in range(share(0.1)):
        directory = damaged(tmp_path / "kept")
        change(directory / "jobs.db", random.Random(seed))

        try:
            journal = Journal.open(str(directory), lambda: 1_800_000_000.0)
        except StoreError:
            continue
        try:
            assert known(journal) == before, seed
            unseen += 1
        except JournalDamagedError:
            continue
        finally:
            journal.close()
    assert unseen < share(0.1)


def of_a_later_format(path: Path) -> None:
    """Change the byte that says which versions may write to a database."""
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x09")


def test_a_cache_that_says_it_may_not_be_written_gives_all_its_answers(kept: Path, said: list[str]) -> None:
    of_a_later_format(kept / "answers/cache.db")

    assert use(kept) == 0
    assert len(said) == 1
    assert use(kept) == 0
    assert len(said) == 1


def test_claims_that_say_they_may_not_be_written_keep_nobody_from_asking(tmp_path: Path) -> None:
    other = Claims(str(tmp_path))
    other.take("live", KEYS[:80])
    other.release("live", KEYS[:80])
    other.close()
    of_a_later_format(tmp_path / FILE)

    mine = Claims(str(tmp_path))
    assert mine.take("live", KEYS).granted == set(KEYS)
    mine.close()


def test_failures_that_say_they_may_not_be_written_are_written_again(tmp_path: Path, said: list[str]) -> None:
    log = FailureLog(str(tmp_path), busy_timeout_s=1.0)
    log.note(key(1), lambda: failed(1))
    log.close()
    of_a_later_format(tmp_path / "failures.db")

    for number in (2, 3):
        log = FailureLog(str(tmp_path), busy_timeout_s=1.0)
        log.note(key(number), lambda number=number: failed(number))  # type: ignore[misc]
        log.close()

    log = FailureLog(str(tmp_path), busy_timeout_s=1.0)
    assert {key(2), key(3)} <= {one.key for one in log.newest_first()}
    log.close()
    assert len(said) == 1


def test_a_journal_that_says_it_may_not_be_written_is_told(tmp_path: Path) -> None:
    journal = Journal.open(str(tmp_path), lambda: 1_800_000_000.0)
    journal.plan(PLAN, outgoing(KEYS[:30]), LIMITS)
    journal.close()
    of_a_later_format(tmp_path / "jobs.db")

    journal = Journal.open(str(tmp_path), lambda: 1_800_000_000.0)
    assert len(journal.pending(KEYS)) == 30
    with pytest.raises(JournalDamagedError):
        journal.plan(PLAN, outgoing(KEYS[30:60]), LIMITS)
    journal.close()


def known(journal: Journal) -> Any:
    """All that decides what is sent and what is paid."""
    waiting = {name: job.id for name, job in journal.pending(KEYS).items()}
    lines = {job.id: [(line.key, line.state) for line in journal.lines.of(job.id)] for job in journal.jobs()}
    return journal.jobs(), waiting, lines


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    """Whatever a file holds, no library is to complain beside our own line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
