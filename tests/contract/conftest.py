from __future__ import annotations

from pathlib import Path

import pytest

from pllm_notebook.sim import Simulator
from tests.contract.departures import Departures
from tests.contract.sides import COMPATIBLE, EVERY_SIDE, HOSTED, OPENAI, Side, reach


@pytest.fixture(params=EVERY_SIDE, ids=lambda side: side.id)
def side(request: pytest.FixtureRequest, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    """Each provider in turn, reached over HTTP."""
    reach(request.param, sim, monkeypatch)
    return request.param


@pytest.fixture(params=HOSTED, ids=lambda side: side.id)
def hosted(request: pytest.FixtureRequest, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    """Each provider with a key and a price."""
    reach(request.param, sim, monkeypatch)
    return request.param


@pytest.fixture
def compatible(sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    """A server of the caller's own."""
    reach(COMPATIBLE, sim, monkeypatch)
    return COMPATIBLE


@pytest.fixture
def luna(sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One hosted model, where the provider does not matter."""
    reach(OPENAI, sim, monkeypatch)
    return OPENAI.model


@pytest.fixture
def departures(monkeypatch: pytest.MonkeyPatch) -> Departures:
    """What leaves through the SDKs of OpenAI and Anthropic in this test."""
    seen = Departures()
    seen.watch(monkeypatch)
    return seen
