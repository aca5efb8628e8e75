"""kill -9 in the middle of a dataset: the same call completes it, and pays again only for what was in flight."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pllm_notebook as pllm
from pllm_notebook.sim import Simulator
from tests.faults.asking import MODEL, PROMPT, Note, rows
from tests.faults.children import Child, until

AT_ONCE = 16
# `make kill` kills more often; between two kills there is time for a part.
KILLS = min(int(os.environ.get("PLLM_KILLS", "2")), 20)
COUNT = 200 + 60 * KILLS

ASK = """
import sys
import pllm_notebook as pllm
from tests.faults.asking import MODEL, PROMPT, Note, settle
cache, address, source, out = sys.argv[1:]
settle(cache, address)
pllm.parse_dataset(source, out, Note, PROMPT, rows=40, model=MODEL, concurrency=16)
"""


@pytest.mark.timeout(60 + 30 * KILLS)
def test_a_dataset_that_is_killed_again_and_again_is_completed_by_the_same_call(
    sim: Simulator, address: str, cache_dir: Path, tmp_path: Path
) -> None:
    """The moments are numbers of answers, drawn by a seed; the process that follows begins where the last one ended."""
    moments = sorted(random.Random(KILLS).sample(range(20, COUNT - 50), KILLS))
    source, out = str(tmp_path / "in.parquet"), str(tmp_path / "out")
    pq.write_table(pa.Table.from_pandas(rows(COUNT)), source, row_group_size=70)
    sim.set(latency_s=0.05, latency_sigma=0.5)

    for wanted in moments:
        child = Child(str(cache_dir), address, source, out, code=ASK)
        before = sim.stats().answered
        until(lambda: sim.stats().answered >= max(wanted, before + 1), "some rows are answered")  # noqa: B023
        child.kill()
        until(lambda: sim.stats().in_flight == 0, "the simulator notices that its client is gone")
    options = {"rows": 40, "model": MODEL, "concurrency": AT_ONCE}
    dataset = pllm.parse_dataset(source, out, Note, PROMPT, **options)
    paid = sim.stats()
    again = pllm.parse_dataset(source, out, Note, PROMPT, **options)

    assert dataset.scan().to_table()["number"].to_pylist() == list(range(COUNT))
    assert paid.distinct == COUNT
    # What had arrived and was not yet on disk is in flight too: a group of answers is committed at once.
    assert paid.answered - COUNT <= 4 * AT_ONCE * KILLS
    assert (again.written, sim.stats().requests) == (0, paid.requests)
