"""A cache directory that is deleted: what is known can be awaited, and nothing makes it again behind one's back."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.engine.shared_engine import engine
from pllm_notebook.store import finish_writes, write_later
from pllm_notebook.store.run_files import RunFiles

FRAME = pd.DataFrame({"text": ["a", "b"]})


def answer(cache_dir: Path) -> None:
    """Ask two rows, and wait for the result alone."""
    pllm.configure(cache_dir=cache_dir, progress=False)
    FRAME.llm.complete("Summarise: {text}", column="summary", model="sim:openai")


def files(directory: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def gate() -> threading.Event:
    """What holds the thread of later writes, so that they come after the result for certain."""
    gate, held = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        gate.wait(60)

    write_later(hold, may_wait=False)
    assert held.wait(60)
    return gate


def test_after_a_flush_nothing_more_is_written(cache_dir: Path) -> None:
    answer(cache_dir)

    pllm.cache.flush()
    before = files(cache_dir)
    finish_writes()

    assert any("runs" in name for name, _ in before)
    assert files(cache_dir) == before
    shutil.rmtree(cache_dir)


def test_a_directory_that_is_left_is_written_first(cache_dir: Path, tmp_path: Path) -> None:
    written: list[Path] = []
    write_later(lambda: written.append(cache_dir))

    pllm.configure(cache_dir=tmp_path / "another")

    assert written == [cache_dir]


def test_a_record_of_a_run_is_not_written_into_a_directory_that_is_gone(
    cache_dir: Path, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    answer(cache_dir)

    shutil.rmtree(cache_dir)
    gate.set()
    finish_writes()

    assert not cache_dir.exists()
    assert caplog.messages == []


def test_records_of_runs_make_their_folder_and_no_more(tmp_path: Path) -> None:
    runs = RunFiles(str(tmp_path / "cache"))

    with pytest.raises(FileNotFoundError):
        runs.write({"id": "00000001", "started_at": 1.0})
    runs.make_directory()
    runs.write({"id": "00000001", "started_at": 1.0})

    assert [header["id"] for header in runs.headers()] == ["00000001"]


def test_a_loop_that_has_stopped_is_not_alive_while_its_thread_cleans_up(cache_dir: Path) -> None:
    cleaning, go_on = threading.Event(), threading.Event()
    first = engine()

    def clean_up() -> None:
        cleaning.set()
        go_on.wait(60)

    first.loop.on_end = clean_up
    first.loop.loop.call_soon_threadsafe(first.loop.loop.stop)
    assert cleaning.wait(60)
    alive, thread_alive, second = first.loop.alive, first.loop.thread.is_alive(), engine()
    go_on.set()

    assert (alive, thread_alive) == (False, True)
    assert second is not first
    assert second.loop.alive
