"""A disk that is full, read only or slow under a whole run: what the run does, and what a person is told."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pllm_notebook.sim import Simulator
from tests.faults.asking import ask, rows, settle
from tests.faults.children import Child
from tests.forked import run_forked

Mount = Callable[..., None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    point = tmp_path / "disk"
    point.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", point], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield point
    subprocess.run(["umount", "-l", point], check=True)


def fill(disk: Path) -> Path:
    """Leave no space on *disk*; give the file that holds it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**16, 2**12):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast


def test_a_full_disk_holds_the_run_until_there_is_space(sim: Simulator, address: str, disk: Path) -> None:
    sim.set(latency_s=0.1)
    cache = disk / "cache"
    child = Child.asking(cache=cache, address=address, count=300, follow=True, notes=True, options={"concurrency": 8})
    child.expect("done")
    ballast = fill(disk)

    child.expect("note", lambda event: event["note"] == "waiting for the cache to be written")
    held = sim.stats()
    ballast.unlink()
    ended = child.expect("ended")
    child.end()

    assert held.answered < 300  # no more calls were admitted
    assert (ended["right"], ended["kept"], ended["unsaved"]) == (True, 300, 0)
    assert sim.stats().requests == 300
    assert child.stderr.count("cannot be written now: database or disk is full. Trying again for up to 60 s.") == 1
    assert child.stderr.count("The cache can be written again.") == 1
    settle(str(cache), address)
    assert ask(rows(300)).result()["number"].tolist() == list(range(300))
    assert sim.stats().requests == 300


def test_a_disk_that_stays_full_ends_the_run_as_incomplete_with_every_answer_in_memory(
    sim: Simulator, address: str, disk: Path
) -> None:
    sim.set(latency_s=0.05)
    cache = disk / "cache"
    child = Child.asking(
        cache=cache, address=address, count=500, follow=True, patience_s=0.5, options={"concurrency": 8}
    )
    child.expect("done")
    fill(disk)

    failed = child.expect("failed")
    child.end()

    assert failed["kind"] == "StoppedError"
    assert failed["unsaved"] > 0
    assert failed["message"].startswith(
        f"incomplete: {failed['unsaved']} unsaved. The cache cannot be written, so no more calls were sent; the "
        f"answers that it lacks are in this run alone. {failed['kept']} of 500 rows are answered and kept: "
    )
    assert failed["note"] == f"incomplete: {failed['unsaved']} unsaved"
    assert len(child.done_rows()) == failed["kept"] < 500
    assert sim.stats().answered - failed["kept"] <= 8  # on the wire when it ended
    said = [line for line in child.stderr.splitlines() if "cannot be saved to the cache" in line]
    assert 1 <= len(said) == len(set(said)) <= failed["unsaved"]
    sim.reset()
    child = Child.asking(cache=cache, address=address, count=500)
    refused = child.expect("failed")
    child.end()
    assert refused["kept"] == failed["kept"] - failed["unsaved"]  # what is kept can be read
    assert "Free some space there: another directory lacks its answers" in refused["message"]
    assert child.stderr.count("can only be read (") == 1
    assert sim.stats().requests == 0  # what cannot be kept is not paid for

    (disk / "ballast").unlink()
    sim.reset()
    settle(str(cache), address)
    assert ask(rows(500)).result()["number"].tolist() == list(range(500))
    assert sim.stats().requests == 500 - (failed["kept"] - failed["unsaved"])


_LEFT = """
import os, sys
import pllm_notebook.store.writer
from store_cases import fill
from pllm_notebook.store import DiskStore
pllm_notebook.store.writer.IDLE_S = 3600  # nothing is moved out of the -wal file
fill(DiskStore(sys.argv[1]), range(60))
os._exit(0)
"""
_READS = """
import sys
import pllm_notebook as pllm
from pllm_notebook.exceptions import StoreError
pllm.configure(cache_dir=sys.argv[1])
print(pllm.cache.info().entries, pllm.cache.check().entries, pllm.cache.export(sys.argv[2]))
for change in (pllm.cache.clear, lambda: pllm.cache.import_(sys.argv[2])):
    try:
        change()
    except StoreError as error:
        print(str(error).rpartition(". ")[2])
"""


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_cache_that_cannot_be_written_is_read_with_what_a_killed_process_left(
    disk: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = disk / "cache"
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "store")])
    subprocess.run([sys.executable, "-c", _LEFT, cache], check=True, env={**os.environ, "PYTHONPATH": path})
    (cache / "answers/cache.db-shm").unlink()
    assert (cache / "answers/cache.db-wal").stat().st_size > 0
    if how == "full":
        fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))

    line = [sys.executable, "-c", _READS, cache, tmp_path / "out.pllm"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)

    nothing = ["Nothing was deleted.", "Nothing was imported."] if how == "full" else []  # else they go elsewhere
    assert done.stdout.splitlines() == ["60 60 60", *nothing], done.stderr
    lines = [line for line in done.stderr.splitlines() if " read" in line]
    if how == "full":
        (line,) = lines
        assert line.startswith(f"The cache in {cache} can only be read (")
    else:
        assert lines[0].startswith(f"The cache directory {cache} is read-only: its answers are used, and new ones go")
        assert lines[1].endswith(f"UserWarning: {cache} is read-only, so its answers were not deleted.")


def test_answers_that_could_not_be_saved_are_in_the_result_of_a_run_that_lacks_no_other(
    sim: Simulator, address: str, disk: Path
) -> None:
    child = Child.asking(
        cache=disk / "cache",
        address=address,
        count=8,
        patience_s=0.0,
        opened=True,
        wait=True,
        options={"concurrency": 8},
    )
    child.expect("ready")
    fill(disk)
    child.tell()

    ended = child.expect("ended")
    warned = child.expect("warned")
    child.end()

    assert ended["right"]
    assert ended["unsaved"] > 0
    assert warned["message"] == (
        f"incomplete: {ended['unsaved']} unsaved. The cache cannot be written, so these answers are in this result "
        f"alone: keep it."
    )


def test_a_cache_on_a_read_only_disk_is_used_and_new_answers_go_elsewhere(
    sim: Simulator, address: str, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = disk / "cache"
    assert Child.asking(cache=cache, address=address, count=20).end() == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    sim.reset()
    monkeypatch.setenv("PLLM_CACHE_DIR", str(tmp_path / "other"))

    for requests in (10, 0):
        child = Child.asking(cache=cache, address=address, count=30)
        ended = child.expect("ended")
        child.end()

        assert (ended["right"], ended["cached"]) == (True, 30 - requests)
        assert sim.stats().requests == requests
        sim.reset()
        told = f"The cache directory {cache} is read-only: its answers are used, and new ones go to {tmp_path}/other."
        assert child.stderr.splitlines() == [told]


_PROGRAM = """
import sys
import pllm_notebook as pllm
address, directory, salt = sys.argv[1:]
pllm.configure(servers={"here": address})
with pllm.resume_directory(directory, model="here:any") as session:
    print(session.agent("one").ask_llm("Well?", salt=salt).resolve())
"""


def test_a_program_in_a_directory_that_can_only_be_read_goes_as_far_as_its_answers(
    sim: Simulator, address: str, disk: Path
) -> None:
    sim.set(answers=lambda request: "yes")

    def program(salt: str = "") -> subprocess.CompletedProcess[str]:
        return run_forked("-c", _PROGRAM, address, str(disk / "session"), salt)

    first = program()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    again, further = program(), program("another draw")

    assert (first.stdout, again.stdout, further.stdout) == ("yes\n", "yes\n", "")
    assert f"{disk / 'session'} is read-only" in further.stderr.splitlines()[-1]
    assert sim.stats().requests == 1


def test_a_database_that_is_locked_for_too_long_is_told_and_not_waited_for(
    sim: Simulator, address: str, cache_dir: Path
) -> None:
    sim.set(latency_s=0.05)
    child = Child.asking(
        cache=cache_dir, address=address, count=500, patience_s=0.5, busy_timeout_s=0.1, follow=True,
        options={"concurrency": 4},
    )  # fmt: skip
    child.expect("done")
    with closing(sqlite3.connect(cache_dir / "answers/cache.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        failed = child.expect("failed")
        child.end()

    assert failed["message"].startswith(f"incomplete: {failed['unsaved']} unsaved. ")
    assert "cannot be written now: database is locked. Trying again for up to" in child.stderr
    assert 0 < failed["kept"] < 500


def test_a_database_that_is_locked_for_a_while_delays_the_run_and_no_more(
    sim: Simulator, address: str, cache_dir: Path
) -> None:
    sim.set(latency_s=0.05)
    child = Child.asking(
        cache=cache_dir, address=address, count=500, patience_s=60, busy_timeout_s=0.1, follow=True, notes=True,
        options={"concurrency": 4},
    )  # fmt: skip
    child.expect("done")
    with closing(sqlite3.connect(cache_dir / "answers/cache.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        child.expect("note", lambda event: event["note"] == "waiting for the cache to be written")
        other.execute("ROLLBACK")
    ended = child.expect("ended")
    child.end()

    assert (ended["right"], ended["unsaved"]) == (True, 0)
