"""One simulator for all tests of this folder, as good as new for each."""

from __future__ import annotations

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from pllm_notebook.sim import SimOptions, Simulator


@pytest.fixture(scope="session")
def _server():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sim(_server):
    _server.set(**SimOptions().as_json(), answers=None)
    _server.reset()
    return _server


@pytest.fixture
def gpt(sim):
    with openai.OpenAI(api_key="any", base_url=sim.base_url("openai"), max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
def compatible(sim):
    with openai.OpenAI(api_key="any", base_url=sim.base_url("compatible"), max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
def claude(sim):
    with anthropic.Anthropic(api_key="any", base_url=sim.base_url("anthropic"), max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
def gemini(sim):
    options = types.HttpOptions(base_url=sim.base_url("google"), timeout=10_000)
    return genai.Client(api_key="any", http_options=options)
