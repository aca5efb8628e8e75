"""Harm done to the cache's files between two runs and under one: whole runs over it, and what a person reads."""

from __future__ import annotations

import os
import pickle
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.sim import Simulator
from pllm_notebook.store import close_stores
from tests.faults.asking import ask, rows, settle
from tests.faults.children import Child

COUNT = 60
ASIDE = r"It was set aside as cache\.db\.damaged-\w+; (\d+) answers were salvaged from it, \d+ were damaged, and "


@pytest.fixture
def kept(sim: Simulator, address: str, cache_dir: Path) -> Path:
    """A cache that holds every row, closed."""
    ask(rows(COUNT), max_retries=0).wait()
    engine.shutdown()
    close_stores()
    sim.reset()
    return cache_dir


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.proof,)


def execute(cache: Path, statement: str, *arguments: object) -> None:
    with closing(sqlite3.connect(cache / "answers/cache.db", isolation_level=None)) as connection:
        connection.execute(statement, arguments)


def cut_to_nothing(cache: Path) -> None:
    os.truncate(cache / "answers/cache.db", 0)


def cut_in_half(cache: Path) -> None:
    os.truncate(cache / "answers/cache.db", (cache / "answers/cache.db").stat().st_size // 2 // 4096 * 4096)


def overwrite_the_head(cache: Path) -> None:
    with (cache / "answers/cache.db").open("r+b") as file:
        file.write(random.Random(1).randbytes(100))


def overwrite_everything(cache: Path) -> None:
    (cache / "answers/cache.db").write_bytes(random.Random(1).randbytes(50_000))


def delete_the_database(cache: Path) -> None:
    (cache / "answers/cache.db").unlink()


CUT = "was cut to 0 bytes"
MALFORMED = r"is damaged \(database disk image is malformed\)"
NO_DATABASE = r"is damaged \(file is not a database\)"
GONE = "is gone: answers/cache.db held answers and no longer exists. A new one was created"


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("harm", "told", "least"),
    [
        (cut_to_nothing, CUT, 0),
        (cut_in_half, MALFORMED, 5),
        (overwrite_the_head, NO_DATABASE, COUNT),
        (overwrite_everything, NO_DATABASE, 0),
        (delete_the_database, GONE, 0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_cache_is_told_in_one_line_and_only_what_it_lacks_is_asked(
    harm: Callable[[Path], None], told: str, least: int, sim: Simulator, address: str, kept: Path
) -> None:
    harm(kept)

    child = Child.asking(cache=kept, address=address, count=COUNT)
    ended = child.expect("ended")
    child.end()

    (line,) = child.stderr.splitlines()
    assert re.match(f"The cache in {kept} {told}", line)
    salvaged = re.search(ASIDE, line)
    assert ended["right"]
    assert ended["cached"] == (int(salvaged[1]) if salvaged else 0) >= least
    assert sim.stats().requests == COUNT - ended["cached"]
    again = ask(rows(COUNT))
    again.wait()
    assert again.progress().cached == COUNT


def test_a_cache_without_its_write_ahead_log_says_how_much_it_lacks(
    sim: Simulator, address: str, kept: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    (copy / "answers").mkdir(parents=True)
    # The database as it is while what is committed next is in the log alone.
    shutil.copy(kept / "answers/cache.db", copy / "answers/cache.db")
    child = Child.asking(cache=kept, address=address, count=COUNT + 40, follow=True)
    child.expect("done", lambda event: len(child.done_rows()) == COUNT + 40)
    child.kill()
    shutil.copy(kept / "cache.id", copy / "cache.id")
    sim.reset()

    second = Child.asking(cache=copy, address=address, count=COUNT + 40)
    ended = second.expect("ended")
    second.end()

    lacking = COUNT + 40 - ended["cached"]
    assert ended["right"]
    assert sim.stats().requests == lacking > 0
    (line,) = second.stderr.splitlines()
    assert line.startswith(f"The cache in {copy} lacks its last {lacking} changes: its -wal file was removed, or the ")


def test_forged_rows_are_neither_run_nor_read_and_are_asked_again(
    sim: Simulator, address: str, kept: Path, tmp_path: Path
) -> None:
    proof, victim = tmp_path / "ran", tmp_path / "victim"
    victim.write_bytes(b"theirs")
    execute(kept, "UPDATE Cache SET mode = 4, value = ? WHERE rowid = 3", pickle.dumps(Payload(proof)))
    execute(kept, "UPDATE Cache SET filename = ?, value = NULL WHERE rowid = 5", "../victim")
    execute(kept, "UPDATE Cache SET filename = ?, value = NULL, mode = 2 WHERE rowid = 7", "../victim")

    child = Child.asking(cache=kept, address=address, count=COUNT)
    ended = child.expect("ended")
    child.end()

    assert (ended["right"], ended["cached"], sim.stats().requests) == (True, COUNT - 3, 3)
    assert not proof.exists()
    assert victim.read_bytes() == b"theirs"
    (line,) = child.stderr.splitlines()
    assert line.startswith(f"3 entries of the cache in {kept} cannot be used and count as absent (the first: ")


def test_check_says_of_every_answer_whether_it_is_whole(sim: Simulator, address: str, kept: Path) -> None:
    settle(str(kept), address)
    assert repr(pllm.cache.check()) == f"CacheCheck: {COUNT} answers are whole, no damage found."
    with closing(sqlite3.connect(kept / "answers/cache.db", isolation_level=None)) as connection:
        for rowid in (2, 30):
            value = bytearray(connection.execute("SELECT value FROM Cache WHERE rowid = ?", (rowid,)).fetchone()[0])
            value[len(value) // 2] ^= 1
            connection.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (bytes(value), rowid))

    found = pllm.cache.check()
    out = ask(rows(COUNT)).result()

    assert repr(found) == f"CacheCheck: {COUNT - 2} answers are whole, 2 rows cannot be used."
    assert not found.ok
    assert out["number"].tolist() == list(range(COUNT))
    assert sim.stats().requests == 2
    assert pllm.cache.check().ok


def test_check_of_a_damaged_page_says_what_sqlite_found_and_changes_nothing(address: str, kept: Path) -> None:
    settle(str(kept), address)
    pllm.cache.check()
    pages = (kept / "answers/cache.db").stat().st_size // 4096
    with (kept / "answers/cache.db").open("r+b") as file:
        file.seek(pages // 2 * 4096)
        file.write(b"\xff" * 4096)
    before = (kept / "answers/cache.db").read_bytes()

    found = pllm.cache.check()

    assert not found.ok
    assert found.entries < COUNT
    assert "malformed" in repr(found) or "Tree" in repr(found) or found.damaged
    assert (kept / "answers/cache.db").read_bytes() == before


@pytest.mark.sample(1)
@pytest.mark.parametrize("harm", ["directory", "database"])
def test_what_is_deleted_under_a_run_is_made_anew_and_what_comes_after_is_kept(
    sim: Simulator, address: str, cache_dir: Path, harm: str
) -> None:
    sim.set(latency_s=0.01)
    child = Child.asking(cache=cache_dir, address=address, count=400, follow=True, options={"concurrency": 4})
    child.expect("done")
    if harm == "directory":
        shutil.rmtree(cache_dir)
    else:
        for name in ("answers/cache.db", "answers/cache.db-wal", "answers/cache.db-shm"):
            (cache_dir / name).unlink(missing_ok=True)
    ended = child.expect("ended")
    child.end()
    sim.reset()

    out = ask(rows(400)).result()

    assert (ended["right"], ended["unsaved"]) == (True, 0)
    assert len(child.stderr.splitlines()) == 1
    assert out["number"].tolist() == list(range(400))
    assert sim.stats().requests < 400


def test_a_database_cut_to_nothing_under_a_run_costs_no_answer_that_comes_after(
    sim: Simulator, address: str, cache_dir: Path
) -> None:
    sim.set(latency_s=0.01)
    child = Child.asking(cache=cache_dir, address=address, count=400, follow=True, options={"concurrency": 4})
    child.expect("done")
    os.truncate(cache_dir / "answers/cache.db", 0)
    ended = child.expect("ended")
    child.end()

    assert (ended["right"], ended["unsaved"]) == (True, 0)
    assert ask(rows(400)).result()["number"].tolist() == list(range(400))
