"""Other settings of a simulator are other calls, and a mistake in its `answers` function is told at once."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import ProviderRejectedError
from pllm_notebook.sim import shared
from pllm_notebook.sim.simulator_identity import identity
from tests.contract.scripts import words

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

TRUTH = {"a": "one"}


def from_truth(request: Any) -> str:
    return TRUTH[request.prompt]


def test_changed_answers_are_asked_anew_and_equal_ones_are_not(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(**sim: Any) -> tuple[str, str]:
        pllm.configure(sim=sim)
        out = words("a").llm.complete("{text}", model="sim:openai")
        return out["answer"].iloc[0], out.llm.status.iloc[0]

    assert ask(answers=lambda request: "one") == ("one", "ok")
    assert ask(answers=lambda request: "one") == ("one", "cached")
    assert ask(answers=lambda request: "two") == ("two", "ok")
    assert ask(answers=from_truth) == ("one", "ok")
    monkeypatch.setitem(TRUTH, "a", "another truth")
    assert ask(answers=from_truth) == ("another truth", "ok")
    by_itself = ask()
    assert ask(seed=1)[1] == "ok"
    assert ask(latency_s=0.01, requests_per_min=6000) == (by_itself[0], "cached")


def test_the_default_simulator_adds_nothing_to_a_key() -> None:
    assert identity({}) == identity({"latency_s": 1.0, "error_500": 0.5, "seed": 0}) == ""
    assert identity({"seed": 1}) != identity({"seed": 2})


def test_an_answers_function_is_the_same_in_every_process() -> None:
    code = (
        "from pllm_notebook.sim.simulator_identity import identity\n"
        "words = ['yes', 'no']\n"
        "def answers(request):\n"
        "    return words[0] if request.prompt in {'a', 'b', 'c', 'd'} else words[1]\n"
        "print(identity({'answers': answers}))\n"
    )
    ran = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]

    assert len({each.stdout for each in ran}) == 1
    assert len(ran[0].stdout.strip()) == 16


def test_a_mistake_in_an_answers_function_is_sent_once_and_told_with_its_place(
    cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def answers(request: Any) -> str:
        return request.no_such_attribute

    pllm.configure(sim={"answers": answers})
    shared({"answers": answers}).reset()

    out = words("a").llm.complete("{text}", model="sim:openai")

    (failed,) = out.llm.errors.to_dict("records")
    assert failed["attempts"] == 1
    assert "AttributeError" in failed["message"]
    assert "request.no_such_attribute" in failed["message"]
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.ERROR)
    with pytest.raises(ProviderRejectedError, match="AttributeError"):
        words(*map(str, range(200))).llm.complete("{text}", model="sim:openai")


def test_a_mended_answers_function_is_asked(cache_dir: Path) -> None:
    pllm.configure(sim={"answers": lambda request: 1 / 0 if request.prompt == "b" else "yes"})
    first = words("a", "b").llm.complete("{text}", model="sim:openai")
    pllm.configure(sim={"answers": lambda request: "yes"})

    mended = words("a", "b").llm.complete("{text}", model="sim:openai")

    assert first["answer"].isna().tolist() == [False, True]
    assert mended["answer"].tolist() == ["yes", "yes"]
