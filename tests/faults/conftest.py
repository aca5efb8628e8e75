from __future__ import annotations

from pathlib import Path

import pytest

from pllm_notebook.sim import Simulator
from tests.faults.asking import settle
from tests.faults.children import answer


@pytest.fixture
def address(sim: Simulator, cache_dir: Path) -> str:
    """Where the simulator answers each row with its own number; this process asks there, and keeps in `cache_dir`."""
    sim.set(answers=answer, keep_requests=20_000)
    url = sim.base_url("compatible")
    settle(str(cache_dir), url)
    return url
