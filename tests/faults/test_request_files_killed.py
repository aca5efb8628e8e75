"""kill -9 in the middle of a request file: it goes on where it was, with one result for each line in the end."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook.request_files.process_file import OAIApiFromFileConfig, process_api_requests_from_file_sync
from pllm_notebook.sim import Simulator
from tests.faults.children import Child, number_in, until

PROCESS = """
import json, sys
import pllm_notebook as pllm
from pllm_notebook.request_files.process_file import OAIApiFromFileConfig, process_api_requests_from_file_sync

job = json.loads(sys.argv[1])
pllm.configure(concurrency=32)
process_api_requests_from_file_sync(OAIApiFromFileConfig(**job))
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_file_goes_on_with_one_result_for_each_line(
    seed: int, sim: Simulator, cache_dir: Path, address: str, tmp_path: Path
) -> None:
    draw = random.Random(seed)
    count = draw.randrange(300, 1200)
    sim.set(latency_s=draw.choice([0.01, 0.03]), latency_sigma=0.5, error_500=0.05)
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    with requests.open("w") as file:
        for row in range(count):
            said = [{"role": "user", "content": f"review number {row}."}]
            file.write(json.dumps({"model": "any", "messages": said, "metadata": {"row": row}}) + "\n")
    job = {
        "requests_filepath": str(requests),
        "save_filepath": str(results),
        "request_url": f"{address}/chat/completions",
        "cache_dir": str(cache_dir),
        "progress": False,
    }

    for _ in range(2):
        before = _rows(results)
        sent = len(sim.requests(20_000))
        enough = len(before) + draw.randrange(20, count // 3)
        child = Child(json.dumps(job), code=PROCESS)
        until(partial(_has, results, enough), "enough results")
        child.kill()
        until(lambda: sim.stats().in_flight == 0, "the simulator notices that its client is gone")
        # What was written is never sent again.
        assert not before & {number_in(_prompt(request)) for request in sim.requests(20_000)[sent:]}
    done, sent = _rows(results), len(sim.requests(20_000))
    status = process_api_requests_from_file_sync(OAIApiFromFileConfig(**job))

    found = [json.loads(line) for line in results.read_text().splitlines()]
    assert [metadata["row"] for _, _, metadata in found] == list(range(count))
    assert all(number_in(request["messages"][0]["content"]) == each["row"] for request, _, each in found)
    assert not done & {number_in(_prompt(request)) for request in sim.requests(20_000)[sent:]}
    assert (status.done_before, status.succeeded) == (len(done), count - len(done))
    assert pllm.cache.check().ok


def _rows(path: Path) -> set[int]:
    """Give the rows that have a whole line."""
    if not path.exists():
        return set()
    return {json.loads(line)[2]["row"] for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")}


def _has(path: Path, count: int) -> bool:
    return path.exists() and path.read_bytes().count(b"\n") >= count


def _prompt(request: dict[str, Any]) -> str:
    return str(request["body"]["messages"][-1]["content"])
