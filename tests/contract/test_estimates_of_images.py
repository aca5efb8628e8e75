"""Estimates over files: what they count, and how little of them is held meanwhile."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pandas as pd
import pytest

from pllm_notebook.sim import Simulator

MB = 2**20
ROWS = 90


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Rows that show a file of a megabyte each, where the notebook is."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(MB))
    return pd.DataFrame({"n": range(ROWS), "photo": [str(path)] * ROWS})


@pytest.mark.parametrize("shown", ["estimate", "lines"])
def test_what_would_be_sent_is_counted_without_holding_the_files_of_all_rows(
    luna: str, sim: Simulator, large: pd.DataFrame, shown: str
) -> None:
    asked = {"model": luna, "images": "photo", "mode": "batch"}
    look = large.llm.estimate if shown == "estimate" else large.llm.request_lines
    large.head(1).llm.estimate(str, "What is {n}?", **asked)  # opens the cache and the journal

    tracemalloc.start()
    try:
        found = look(str, "What is {n}?", **asked)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (found.calls if shown == "estimate" else found.total) == ROWS
    assert held < ROWS * MB / 2
    assert sim.stats().requests == 0
