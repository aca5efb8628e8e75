"""Drift: an exact test against the model's own noise, and rows that are asked again, twice each."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import scipy  # type: ignore[import-untyped]
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.lab import recheck_run
from pllm_notebook.lab.drift import drift_p
from pllm_notebook.prices import is_deprecated
from pllm_notebook.sim import SimAnswer


class Mood(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]


class Sim:
    """The simulated provider, whose answers may drift."""

    def __init__(self) -> None:
        self.asked = 0
        self.drifted = self.is_retired = self.is_noisy = False
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def answer(self, request: Any) -> Any:
        self.asked += 1
        if self.is_retired:
            return SimAnswer.status(404)
        number = int(request.prompt.split()[-1])
        if self.is_noisy and number % 4 == 0:
            with self._lock:
                is_second = request.prompt in self._seen
                self._seen.add(request.prompt)
            return {"mood": ["good", "bad"][is_second]}
        return {"mood": "bad" if self.drifted and number % 4 == 0 else "good"}


@pytest.fixture
def sim_model(cache_dir: Path) -> Sim:
    model = Sim()
    pllm.configure(sim={"answers": model.answer}, model="sim:openai")
    return model


def answers(rng: np.random.Generator, rows: int, noise: float, changed: float) -> tuple[np.ndarray, ...]:
    """Draw three answers to each row; the truth of a share of rows changed after the first."""
    truth = rng.integers(0, 3, rows)
    later = np.where(rng.random(rows) < changed, (truth + 1) % 3, truth)
    return tuple(np.where(rng.random(rows) < noise, rng.integers(0, 3, rows), one) for one in (truth, later, later))


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.3])
def test_a_noisy_model_that_has_not_changed_is_seldom_said_to_have(noise: float) -> None:
    rng = np.random.default_rng(3)

    alarms = [drift_p(*answers(rng, 200, noise, 0.0))[0] < 0.05 for _ in range(1_000)]

    assert np.mean(alarms) <= 0.05


def test_a_change_of_five_in_a_hundred_is_found_as_often_as_it_can_be() -> None:
    rng = np.random.default_rng(4)

    for noise, least in ((0.0, 0.95), (0.03, 0.8)):
        found = [drift_p(*answers(rng, 200, noise, 0.05))[0] < 0.05 for _ in range(300)]
        assert np.mean(found) >= least


def test_the_test_is_scipys() -> None:
    old, first, second = np.array([0, 0, 1, 0, 2]), np.array([1, 0, 1, 1, 0]), np.array([1, 1, 1, 0, 1])

    p, count, trials = drift_p(old, first, second)

    assert (count, trials) == (1, 3)  # all alike, and all different, say nothing
    assert p == pytest.approx(scipy.stats.binomtest(1, 3, 1 / 3, alternative="greater").pvalue)


@pytest.mark.parametrize("live", [True, False], ids=["live", "recorded"])
def test_rows_are_asked_twice_and_a_drift_is_found(
    sim_model: Sim, live: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"text": [f"text {n}" for n in range(40)] * 2})
    out = frame.llm.parse(Mood, "A {text}")
    if not live:
        run_registry.forget_all()
        with pytest.raises(UsageError, match="pass the type"):
            out.llm.recheck(n=30)
    before = sim_model.asked

    still = out.llm.recheck(Mood, n=30)

    assert (still.has_drifted, sim_model.asked - before) == (False, 60)
    assert "30 rows twice: 60 calls" in capsys.readouterr().out
    assert "No change found" in repr(still)
    assert out.llm.recheck(Mood, n=30).drawn == 30  # the same day's goes on where it stopped
    assert sim_model.asked - before == 60
    # In a later kernel the cell above makes another run of the same question.
    frame.llm.parse(Mood, "A {text}").llm.recheck(Mood, n=30)
    assert sim_model.asked - before == 60
    # What a recheck answered is asked again, and not compared with itself.
    still.frames[0].llm.recheck(Mood, n=30)
    assert sim_model.asked - before == 120


def test_what_has_changed_is_named(sim_model: Sim) -> None:
    frame = pd.DataFrame({"text": [f"text {n}" for n in range(40)]})
    out = frame.llm.parse(Mood, "A {text}")
    sim_model.drifted = True

    found = out.llm.recheck(n=40)

    (field,) = found.fields
    assert (field.rows, field.old_differs, field.odd, field.noise) == (40, 10, 10, 0.0)
    assert found.has_drifted
    assert "The answers have changed: mood" in found._repr_html_()


def test_what_cannot_be_asked_again_is_refused(sim_model: Sim) -> None:
    out = pd.DataFrame({"text": ["text 1"]}).llm.parse(Mood, "A {text}", samples=2)
    before = sim_model.asked

    with pytest.raises(PllmError, match="decided among several"):
        out.llm.recheck()
    with pytest.raises(UsageError, match="whole number"):
        out.llm.recheck(n=0)
    assert sim_model.asked == before


def test_a_row_that_fails_now_is_not_taken_for_one_that_answers_as_before(sim_model: Sim) -> None:
    out = pd.DataFrame({"text": [f"row {n}" for n in range(3)]}).llm.parse(Mood, "Read {text}")

    with pytest.warns(UserWarning, match="failed"):
        found = out.llm.recheck(n=3, cache="only")
    asked_again = out.llm.recheck(n=3)

    assert "Not known: no row that was drawn has two new answers" in repr(found)
    assert "No change found in 3 rows" in repr(asked_again)
    assert "With so few rows, a larger change may be, too." in repr(asked_again)


@pytest.mark.parametrize("option", ["prompt", "salt", "samples"])
def test_another_question_is_no_recheck(sim_model: Sim, option: str) -> None:
    out = pd.DataFrame({"text": ["row 1"]}).llm.parse(Mood, "Read {text}")
    asked = sim_model.asked

    with pytest.raises(UsageError, match=f"{option}= is not given. Nothing was sent"):
        out.llm.recheck(n=1, **{option: 2})
    assert sim_model.asked == asked


def test_text_is_asked_for_as_text_again(cache_dir: Path) -> None:
    asked: list[Any] = []

    def answer(request: Any) -> str:
        asked.append((request.prompt, request.system, request.schema))
        return "tea"

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    out = pd.DataFrame({"text": ["a", "b"]}).llm.complete("Say {text}", column="said")

    found = out.llm.recheck(n=2)
    assert sorted(asked) == sorted(3 * asked[:2])
    assert [(one.field, one.rows, one.old_differs) for one in found.fields] == [("said", 2, 0)]

    run_registry.forget_all()
    out.llm.recheck(n=2)  # text needs no type to be asked again by a later kernel
    assert set(asked) == set(asked[:2])


def test_who_answered_then_and_now_is_shown(sim_model: Sim, monkeypatch: pytest.MonkeyPatch) -> None:
    out = pd.DataFrame({"text": ["row 1", "row 2"]}).llm.parse(Mood, "Read {text}")
    monkeypatch.setattr(recheck_run, "is_deprecated", lambda model, served: model == "sim:openai/gpt-6-luna")

    found = out.llm.recheck(n=2)

    assert found.served == (("gpt-6-luna",), ("gpt-6-luna",))
    assert found.fingerprints == (("fp_simulated",), ("fp_simulated",))
    assert "fp_simulated" in repr(found)
    assert "genai-prices lists this model as deprecated by its provider" in repr(found)


def test_retirement_is_what_the_table_of_prices_says() -> None:
    assert is_deprecated("google:gemini-2.0-flash") is True
    assert is_deprecated("openai:gpt-4o-mini") is False
    assert is_deprecated("vllm:of-our-own") is None
    # A name that means whatever is current may have been answered by a model that is not.
    assert is_deprecated("google:of-our-own", ["gemini-2.0-flash"]) is True


def test_another_simulator_than_the_earlier_kernels_is_refused(sim_model: Sim) -> None:
    """Its answers would differ without any drift."""
    out = pd.DataFrame({"text": [f"row {n}" for n in range(8)]}).llm.parse(Mood, "Read {text}")
    run_registry.forget_all()
    pllm.configure(sim={"answers": lambda request: {"mood": "bad"}})
    asked = sim_model.asked

    with pytest.raises(UsageError, match=r"not to the question that would be asked now.*Nothing was sent"):
        out.llm.recheck(Mood, n=8)

    assert sim_model.asked == asked


def test_what_is_announced_is_what_will_be_sent(sim_model: Sim, capsys: pytest.CaptureFixture[str]) -> None:
    out = pd.DataFrame({"text": [f"row {n}" for n in range(12)]}).llm.parse(Mood, "Read {text}")

    said = []
    for n in (1, 5, 5, 12):
        before = sim_model.asked
        out.llm.recheck(n=n)
        said.append((capsys.readouterr().out, sim_model.asked - before))

    assert said == [
        ("Asking 1 row twice: 2 calls.\n", 2),
        ("Asking 5 rows twice: 8 calls. The cache answers 2.\n", 8),
        ("Asking 5 rows twice: 0 calls. The cache has the answers.\n", 0),
        ("Asking 12 rows twice: 14 calls. The cache answers 10.\n", 14),
    ]


def test_a_model_that_the_provider_no_longer_has_is_said_to_be_retired(sim_model: Sim) -> None:
    out = pd.DataFrame({"text": ["row 1", "row 2"]}).llm.parse(Mood, "Read {text}")
    sim_model.is_retired = True

    with pytest.raises(PllmError, match=r"answered on \d{4}-\d\d-\d\d, but the provider no longer has it.*retired"):
        out.llm.recheck(n=2)


def test_pairs_of_a_recheck_are_the_noise_of_a_later_comparison(sim_model: Sim) -> None:
    frame = pd.DataFrame({"text": [f"row {n}" for n in range(40)]})
    old = frame.llm.parse(Mood, "Read {text}", prefix="a_")
    new = frame.llm.parse(Mood, "Read this: {text}", prefix="b_")
    assert new.llm.compare(old).changes[0].noise is None
    sim_model.is_noisy = True
    old.llm.recheck(n=40)
    sim_model.is_noisy = False
    asked = sim_model.asked

    found = new.llm.compare(old)

    (field,) = found.changes
    assert (field.noise, field.noise_pairs) == (0.25, 40)
    assert field.noise_from.startswith("recheck of 20")
    assert f"25.0 % of 40 pairs ({field.noise_from})" in repr(found)
    assert found.by_field["noise_from"].tolist() == [field.noise_from]
    run_registry.forget_all()
    assert new.llm.compare(old).changes[0].noise == 0.25
    # Of another question, such as one at another temperature, a recheck says nothing.
    other = frame.llm.parse(Mood, "Read this: {text}", temperature=0.5)
    assert other.llm.compare(new).changes[0].noise is None
    assert sim_model.asked == asked + 40
