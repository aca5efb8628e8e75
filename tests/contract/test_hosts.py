"""Whose answer an entry of the cache is: a provider's name at another host is not the provider."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.providers import openai, resolve
from pllm_notebook.sim import Simulator
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, Side, reach

ASKED = pd.DataFrame({"text": ["a", "b", "c"]})


def identity(model: str) -> str:
    target = resolve(model, servers={}, clients={}, keys={}, simulator=str)
    return target.identity


def ask(model: str) -> list[str]:
    return ASKED.llm.complete("Say {text}", model=model, column="said")["said"].tolist()


@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE], ids=str)
def test_what_a_mock_answered_in_a_providers_name_is_not_the_providers_answer(
    side: Side, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.set(answers=lambda request: "mocked")
    reach(side, sim, monkeypatch)
    assert ask(side.model) == ["mocked"] * 3

    # The other name of this machine stands for another host.
    monkeypatch.setenv(side.address, sim.base_url(side.wire).replace("127.0.0.1", "localhost"))
    sim.set(answers=lambda request: "real")

    assert ask(side.model) == ["real"] * 3


def test_the_port_may_change(sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy.example:8001/v1")
    before = identity("openai:gpt-6-luna")

    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy.example:9002/v1")

    assert before == identity("openai:gpt-6-luna") == "openai@proxy.example"


@pytest.mark.parametrize("address", ["", "https://api.openai.com/v1", "https://eu.api.openai.com/v1"])
def test_the_providers_own_hosts_have_the_keys_they_always_had(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("OPENAI_BASE_URL", address)

    assert identity("openai:gpt-6-luna") == "openai"


def test_a_host_that_only_looks_like_the_providers_is_another() -> None:
    assert openai.PROVIDER.foreign_host("https://api.openai.com.example.org/v1") == "api.openai.com.example.org"


def test_a_server_by_name_keeps_its_answers_on_another_machine_with_one_warning(
    sim: Simulator, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = sim.base_url("compatible")
    pllm.configure(servers={"mine": here})
    said = ask("mine:small")
    before = sim.stats().requests

    pllm.configure(servers={"mine": here.replace("127.0.0.1", "localhost")})
    again = [ask("mine:small") for _ in range(2)]

    assert again == [said, said]
    assert sim.stats().requests == before
    assert caplog.text.count("were made at 127.0.0.1, and it is at localhost now") == 1
