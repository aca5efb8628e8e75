"""What tests of frames share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import pytest

import pllm_notebook as pllm
from pllm_notebook.sim import Simulator

from .frame_libraries import LIBRARIES, FrameKit, Texts
from .known_answers import Sent, answers_to


@pytest.fixture(params=LIBRARIES, ids=repr)
def kit(request: pytest.FixtureRequest) -> FrameKit:
    """Each dataframe library in turn."""
    kit: FrameKit = request.param
    return kit


@pytest.fixture
def texts(kit: FrameKit) -> Texts:
    """Make `.llm` of a frame of texts, in each library."""
    return lambda *values: kit.llm(kit.frame({"t": list(values)}))


@pytest.fixture
def sent(cache_dir: object) -> Sent:
    """Answer from the prompt alone, so that the truth of each row is known; refuse what begins with "-"."""
    sent: Sent = deque()
    pllm.configure(sim={"answers": answers_to(sent)}, model="sim:openai")
    return sent


@pytest.fixture
def echo(sim: Simulator, cache_dir: object) -> Iterator[Callable[[], int]]:
    """Answer with the prompt itself as `Named`, and count the requests."""
    sim.set(answers=lambda request: {"name": request.prompt})
    pllm.configure(servers={"mine": sim.base_url("compatible")}, model="mine:m")
    yield lambda: sim.stats().requests
    sim.set(answers=None)
