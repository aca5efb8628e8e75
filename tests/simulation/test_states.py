"""A person's days with one cache, in any order: the model is the set of calls that are paid for.

The real store on disk, the real engine, real HTTP to the simulator. `known` are calls whose answers were
reported, so that nothing of them may be sent again; what an interrupt or a kill left in the middle is neither
known nor surely unpaid, and may be sent once more.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.sim import Simulator
from pllm_notebook.store import close_stores
from pllm_notebook.store.location import DATABASE


class Short(BaseModel):
    item: str


class Long(BaseModel):
    item: str
    length: int


_WORDS = [f"word-{n}" for n in range(12)]
_PROMPT = "Repeat {text}"


def _answer(request: Any) -> dict[str, Any]:
    item = request.prompt.removeprefix("Repeat ")
    return {"item": item, "length": len(item)} if "length" in request.schema["properties"] else {"item": item}


class Days(RuleBasedStateMachine):
    simulator: Simulator

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pllm-days-"))
        pllm.configure(
            cache_dir=self.directory / "cache",
            progress=False,
            servers={"lab": self.simulator.base_url("compatible")},
        )
        self.simulator.set(answers=_answer, latency_s=0.0, error_500=0.0)
        self.texts: list[str] = ["word-0"]
        self.model, self.kind = "lab:one", Short
        self.known: set[tuple[str, str, str]] = set()

    def teardown(self) -> None:
        engine.shutdown()
        close_stores()
        shutil.rmtree(self.directory, ignore_errors=True)

    @rule(words=st.lists(st.sampled_from(_WORDS), min_size=1, max_size=5))
    def add_rows(self, words: list[str]) -> None:
        self.texts = (self.texts + words)[-20:]

    @rule(model=st.sampled_from(("lab:one", "lab:two")))
    def change_model(self, model: str) -> None:
        self.model = model

    @rule(kind=st.sampled_from((Short, Long)))
    def change_schema(self, kind: Any) -> None:
        self.kind = kind

    @rule()
    def run(self) -> None:
        paid = self._paid()

        out = self._frame().llm.parse(self.kind, _PROMPT, model=self.model)

        self._check(out)
        assert self._paid() - paid <= len(self._keys() - self.known)
        self.known |= self._keys()

    @rule()
    def run_again_at_once(self) -> None:
        self.run()
        paid = self._paid()

        self._frame().llm.parse(self.kind, _PROMPT, model=self.model)

        assert self._paid() == paid

    @rule(wait_s=st.sampled_from((0.0, 0.01, 0.05)))
    def interrupt(self, wait_s: float) -> None:
        run, paid = self._begin_slowly(), self._paid()
        time.sleep(wait_s)
        run.cancel()
        run.wait()

        self._hear(run)
        assert self._paid() - paid <= len(self._keys())
        self.simulator.set(latency_s=0.0)

    @rule(wait_s=st.sampled_from((0.0, 0.01, 0.05)))
    def kill(self, wait_s: float) -> None:
        run = self._begin_slowly()
        time.sleep(wait_s)
        self._hear(run)
        engine.shutdown()
        close_stores()
        self.simulator.set(latency_s=0.0)

    @rule()
    def restart(self) -> None:
        engine.shutdown()
        close_stores()

    @rule()
    def fail_and_retry(self) -> None:
        self.simulator.set(error_500=1.0)
        run = self._frame().llm.submit(self.kind, _PROMPT, model=self.model, max_retries=0)
        run.wait()
        failed = {self._key(text) for text, one in zip(self.texts, self._told(run), strict=True) if one is None}
        assert not failed & self.known
        self.simulator.set(error_500=0.0)
        paid = self._paid()

        run.retry().wait()

        self._check(run.to_frame())
        assert self._paid() - paid <= len(failed)
        self.known |= self._keys()

    @rule(where=st.floats(0.0, 1.0), how=st.sampled_from(("flip", "truncate", "empty", "garbage")))
    def corrupt(self, where: float, how: str) -> None:
        self.restart()
        database = self.directory / "cache" / DATABASE
        if not database.exists():
            return
        size = os.path.getsize(database)
        with database.open("r+b") as file:
            file.seek(int(where * max(0, size - 64)))
            match how:
                case "flip":
                    file.write(random.Random(where).randbytes(64))
                case "truncate":
                    file.truncate()
                case "empty":
                    file.truncate(0)
                case "garbage":
                    file.seek(0)
                    file.write(b"not a database".ljust(100, b"\0"))
        # What can be read still counts; how much that is, only the store knows.
        self.known.clear()

    @rule()
    def clear(self) -> None:
        pllm.cache.clear()
        self.known.clear()

    @invariant()
    def every_known_answer_can_be_read(self) -> None:
        if not self._keys() <= self.known:
            return
        out = self._frame().llm.parse(self.kind, _PROMPT, model=self.model, cache="only")
        self._check(out)

    def _frame(self) -> pd.DataFrame:
        return pd.DataFrame({"text": self.texts}, index=[n // 3 for n in range(len(self.texts))])

    def _key(self, text: str) -> tuple[str, str, str]:
        return self.model, self.kind.__name__, text

    def _keys(self) -> set[tuple[str, str, str]]:
        return {self._key(text) for text in self.texts}

    def _paid(self) -> int:
        return self.simulator.stats().answered

    def _begin_slowly(self) -> Any:
        self.simulator.set(latency_s=0.02)
        return self._frame().llm.submit(self.kind, _PROMPT, model=self.model)

    def _hear(self, run: Any) -> None:
        """Count what *run* has reported as known."""
        self.known |= {
            self._key(text) for text, one in zip(self.texts, self._told(run), strict=True) if one is not None
        }

    def _told(self, run: Any) -> list[str | None]:
        items = run.to_frame()["item"]
        return [None if pd.isna(item) else item for item in items]

    def _check(self, out: pd.DataFrame) -> None:
        assert list(out["item"]) == self.texts
        assert list(out.index) == list(self._frame().index)
        assert out["item"].dtype == "string"
        if self.kind is Long:
            assert out["length"].dtype == "Int64"
            assert list(out["length"]) == [len(text) for text in self.texts]


@pytest.mark.timeout(600)
def test_days_with_one_cache_in_any_order(sim: Simulator) -> None:
    Days.simulator = sim

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rows that failed, as they were to
        run_state_machine_as_test(
            Days,
            settings=settings(
                max_examples=20,
                stateful_step_count=12,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
