"""Files that rows show are read beside the engine's loop, which has other runs to serve."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.execution import live_of
from pllm_notebook.frames import images
from pllm_notebook.media import load_media
from pllm_notebook.sim import Simulator

PATIENCE_S = 180
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Rows with a file each, where the program is."""
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / f"{n}.png" for n in range(4)]
    for n, path in enumerate(paths):
        path.write_bytes(PNG + bytes([n]))
    return pd.DataFrame({"photo": [str(path) for path in paths]})


def test_a_file_that_is_slow_to_read_holds_up_no_other_run(
    luna: str, sim: Simulator, photos: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.set(answers=lambda request: f"shown {request.media}")
    reading, goes_on, was_heard = threading.Event(), threading.Event(), threading.Event()
    read: Counter[str] = Counter()

    def slow(source: Any, *where: Any) -> Any:
        read[source] += 1
        if read[source] > 1:  # the first time is the plan's, which is in a thread anyway
            reading.set()
            assert goes_on.wait(PATIENCE_S)
        return load_media(source, *where)

    monkeypatch.setattr(images, "load_media", slow)
    run = photos.llm.submit(None, "Look.", images="photo", model=luna)
    assert reading.wait(PATIENCE_S)

    live_of(run)._loop.call(was_heard.set)
    other = pd.DataFrame({"text": ["a", "b"]}).llm.submit(None, "{text}", model=luna)

    assert was_heard.wait(PATIENCE_S / 2)
    assert live_of(other)._end.ended.wait(PATIENCE_S / 2)
    assert not run.done()
    goes_on.set()
    assert run.result()["answer"].tolist() == ["shown 1"] * 4
    assert set(read.values()) == {2}


@pytest.mark.parametrize("mode", ["sync", "async", "batch"])
def test_rows_that_show_files_are_all_sent_in_every_mode(
    luna: str, sim: Simulator, photos: pd.DataFrame, mode: str
) -> None:
    sim.set(answers=lambda request: f"shown {request.media}", batch_s=0)

    out = photos.llm.complete("Look.", images="photo", model=luna, mode=mode, confirm=False)

    assert out["answer"].tolist() == ["shown 1"] * 4


def test_a_run_that_is_stopped_while_a_file_is_read_ends_and_can_be_taken_up_again(
    luna: str, sim: Simulator, photos: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.set(answers=lambda request: f"shown {request.media}")
    reading, goes_on = threading.Event(), threading.Event()
    reads = 0

    def slow(source: Any, *where: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 1 + len(photos):
            reading.set()
            assert goes_on.wait(PATIENCE_S)
        return load_media(source, *where)

    monkeypatch.setattr(images, "load_media", slow)
    run = photos.llm.submit(None, "Look.", images="photo", model=luna)
    assert reading.wait(PATIENCE_S)

    run.cancel()
    assert live_of(run)._end.ended.wait(PATIENCE_S)
    goes_on.set()

    assert run.retry().result()["answer"].tolist() == ["shown 1"] * 4
    assert sim.stats().requests == 4


def test_a_prompt_that_cannot_be_made_for_a_fault_of_ours_ends_the_run(
    luna: str, sim: Simulator, photos: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    def broken(source: Any, *where: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads > len(photos):
            raise ZeroDivisionError("a fault of ours")
        return load_media(source, *where)

    monkeypatch.setattr(images, "load_media", broken)

    run: pllm.Run = photos.llm.submit(None, "Look.", images="photo", model=luna)

    assert live_of(run)._end.ended.wait(PATIENCE_S)
    with pytest.raises(ZeroDivisionError):
        run.result()
    assert sim.stats().requests == 0
