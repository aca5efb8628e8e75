"""Programs that raise, or whose calls end with an exception: nothing is paid for twice, hangs or is passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook.sessions import Session
from pllm_notebook.sim import Simulator
from tests.contract.programs import restart
from tests.contract.sides import OPENAI


@pytest.fixture
def directory(cache_dir: Path, tmp_path: Path) -> Path:
    return tmp_path / "session"


def session_in(directory: Path, **options: Any) -> Session:
    return pllm.resume_directory(directory, **({"model": OPENAI.model, "confirm": False} | options))


def counted(sim: Simulator) -> int:
    stats = sim.stats()
    return stats.requests + stats.batch_lines


# Asking anew.


def test_a_program_that_ignores_the_cache_and_raises_pays_for_no_answer_twice(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes")

    def raising() -> None:
        with session_in(directory, ignore_cache=True) as session:
            session.agent("one").ask_llm("Well?").resolve()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        raising()
    restart()
    with session_in(directory, ignore_cache=True) as session:
        again = session.agent("one").ask_llm("Well?").stage
    restart()
    with session_in(directory, ignore_cache=True) as session:
        session.agent("one").ask_llm("Well?").resolve()

    assert again == "cached"
    assert counted(sim) == 2  # the program had finished before the third run


def test_a_program_that_ignores_the_cache_and_is_killed_pays_for_no_answer_twice(
    luna: str, sim: Simulator, directory: Path
) -> None:
    sim.set(answers=lambda request: "yes")
    session = session_in(directory, ignore_cache=True)
    session.agent("one").ask_llm("Well?").resolve()  # the block never ends
    restart()

    with session_in(directory, ignore_cache=True) as again:
        stage = again.agent("one").ask_llm("Well?").stage

    assert (stage, counted(sim)) == ("cached", 1)
