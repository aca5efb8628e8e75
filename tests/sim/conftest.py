"""One simulator for all tests of this folder, as good as new for each."""

from __future__ import annotations

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from sim_batching import AnthropicBatches, GoogleBatches, OpenAIBatches

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


# The clients live as long as the server: each costs 0.1 s of certificates that loopback does not need.
@pytest.fixture(scope="session")
def _clients(_server):
    words = {"api_key": "any", "max_retries": 0, "timeout": 10}
    google = types.HttpOptions(base_url=_server.base_url("google"), timeout=60_000)
    return {
        "gpt": openai.OpenAI(base_url=_server.base_url("openai"), **words),
        "compatible": openai.OpenAI(base_url=_server.base_url("compatible"), **words),
        "claude": anthropic.Anthropic(base_url=_server.base_url("anthropic"), **words),
        "gemini": genai.Client(api_key="any", http_options=google),
    }


@pytest.fixture
def gpt(sim, _clients):
    return _clients["gpt"]


@pytest.fixture
def compatible(sim, _clients):
    return _clients["compatible"]


@pytest.fixture
def claude(sim, _clients):
    return _clients["claude"]


@pytest.fixture
def gemini(sim, _clients):
    return _clients["gemini"]


@pytest.fixture(params=["gpt", "claude", "gemini"])
def api(sim, request, _clients):
    kind = {"gpt": OpenAIBatches, "claude": AnthropicBatches, "gemini": GoogleBatches}[request.param]
    return kind(_clients[request.param])
