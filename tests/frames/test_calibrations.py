"""Confidence calibrated against labels: kept by name, applied where it is named, and no value changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimRequest

from .frame_libraries import FrameKit


class Review(BaseModel):
    """Facts."""

    mood: Literal["good", "bad"]
    text: str


def sampled(request: SimRequest) -> Any:
    """Say "good" in a share of the samples that depends on the row."""
    row = int(request.prompt.split()[-1])
    good = random.Random(f"{request.prompt} {request.index}").random() < (row % 10) / 9
    return {"mood": "good" if good else "bad", "text": "t"}


@pytest.fixture
def parsed(cache_dir: object) -> Callable[..., pd.DataFrame]:
    """Ask about some rows, five samples each, with a label for each row."""
    pllm.configure(sim={"answers": sampled}, model="sim:openai")

    def parse(rows: int = 80, prompt: str = "About {n}", **options: Any) -> pd.DataFrame:
        frame = pd.DataFrame({"n": range(rows), "label": ["good" if n % 3 else "bad" for n in range(rows)]})
        return frame.llm.parse(Review, prompt, samples=5, probabilities="samples", **options)

    return parse


def test_calibrating_changes_no_value_and_reports_rows_that_the_fit_has_not_seen(
    parsed: Callable[..., pd.DataFrame],
) -> None:
    out = parsed()
    before = out.copy()

    found = out.llm.calibrate(against="label")

    pd.testing.assert_frame_equal(out, before)
    assert (found.field, found.source, found.found.before.count) == ("mood", "samples", 80)
    assert len(found.confidence) == 80
    assert found.confidence.between(0, 1).all()
    assert found.log_loss <= found.found.before.log_loss
    assert "mood against label: 80 labels" in repr(found)
    assert "No value was changed." in found._repr_html_()


def test_another_run_is_calibrated_only_where_it_names_the_calibration(parsed: Callable[..., pd.DataFrame]) -> None:
    out = parsed()
    stated = out.llm.confidence["mood"]
    found = out.llm.calibrate(against="label", name="mood-1")

    plain, named = parsed(90), parsed(90, calibration="mood-1", replace=True)

    assert plain.llm.confidence["mood"][:80].tolist() == stated.tolist()
    expected = found.found.calibrator(plain.llm.confidence["mood"].to_numpy(dtype=float))
    assert named.llm.confidence["mood"].tolist() == pytest.approx(expected.tolist())
    assert named["mood"].tolist() == plain["mood"].tolist()
    run_registry.forget_all()
    assert named.llm.confidence["mood"].tolist() == pytest.approx(expected.tolist())


def test_a_calibration_of_another_question_is_refused_before_anything_is_sent(
    parsed: Callable[..., pd.DataFrame],
) -> None:
    parsed().llm.calibrate(against="label", name="mood-1")

    with pytest.raises(UsageError, match=r"fitted to another question.*Nothing was sent"):
        parsed(prompt="Now about {n}", calibration="mood-1")
    with pytest.raises(UsageError, match=r"Did you mean 'mood-1'\?.*Nothing was sent"):
        parsed(calibration="mood1")


def test_few_labels_are_refused(parsed: Callable[..., pd.DataFrame]) -> None:
    with pytest.raises(UsageError, match="Calibration needs at least 50"):
        parsed(40).llm.calibrate(against="label")


def test_a_calibration_without_probabilities_is_refused_before_anything_is_sent(
    parsed: Callable[..., pd.DataFrame],
) -> None:
    out = parsed()
    out.llm.calibrate(against="label", name="mood-1")
    pllm.configure(sim={"answers": lambda request: pytest.fail("sent")})

    with pytest.raises(UsageError, match=r"calibration= is what .*without probabilities= there is none.*Nothing was"):
        out[["n", "label"]].llm.parse(Review, "About {n}", calibration="mood-1")


def test_token_probabilities_are_calibrated_whatever_the_dataframe_library(cache_dir: object, kit: FrameKit) -> None:
    pllm.configure(
        sim={"answers": lambda request: {"mood": "good", "text": "t"}, "known_errors": 0.3,
             "miscalibration": {"temperature": 3.0}},
        model="sim:openai/gpt-6-luna",
    )  # fmt: skip
    frame = kit.frame({"n": list(range(200)), "label": ["good"] * 200})
    ask = {"effort": "none", "probabilities": "logprobs"}
    out = kit.llm(frame).parse(Review, "About {n}", **ask)

    found = kit.llm(out).calibrate(against="label", field="mood", name="mood-3")
    named = kit.llm(frame).parse(Review, "About {n}", calibration="mood-3", **ask)

    assert (found.source, found.method) == ("logprobs", found.found.method)
    assert len(found.confidence) == 200
    assert found.found.after.log_loss < found.found.before.log_loss
    stated = [row["mood"] for row in kit.rows(kit.llm(out).confidence)]
    calibrated = [row["mood"] for row in kit.rows(kit.llm(named).confidence)]
    assert calibrated == pytest.approx(found.found.calibrator(np.array(stated)).tolist())
    assert [row["mood"] for row in kit.rows(named)] == [row["mood"] for row in kit.rows(out)]
