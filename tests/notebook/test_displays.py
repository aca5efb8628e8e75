"""Displays and the runs they belong to."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook import execution
from pllm_notebook.notebook.display_choice import choose_display
from pllm_notebook.types import Progress


class Interrupting:
    """A display during whose opening Ctrl-C is pressed."""

    stays = False

    def __init__(self) -> None:
        self.last: Progress | None = None

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def update(self, progress: Progress) -> None:
        pass

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        self.last = progress


@pytest.fixture
def display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupting]:
    monkeypatch.setenv("PLLM_CACHE_DIR", str(tmp_path))
    sink = Interrupting()
    execution.register_display(lambda: sink)
    yield sink
    execution.register_display(choose_display)


def test_an_interrupt_while_the_display_opens_stops_the_run(display: Interrupting) -> None:
    pllm.configure(sim={"latency_s": 30})

    with pytest.raises(KeyboardInterrupt):
        pd.DataFrame({"t": ["a"]}).llm.parse(bool, "{t}?", model="sim:openai")

    pllm.runs()[-1].wait()
    pllm.configure(sim=None)
    assert display.last is not None
    assert (display.last.state, display.last.done) == ("cancelled", 0)
