"""Confidence calibrated against labels: kept by name, applied where it is named, and no value changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest

from .frame_libraries import FrameKit

pytestmark = pytest.mark.sample(1)  # of the libraries: what is calibrated is the same numbers in each


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
def parsed(cache_dir: object, kit: FrameKit) -> Callable[..., Any]:
    """Ask about some rows, five samples each, with a label for each row."""
    pllm.configure(sim={"answers": sampled}, model="sim:openai")

    def parse(rows: int = 80, prompt: str = "About {n}", **options: Any) -> Any:
        frame = kit.frame({"n": list(range(rows)), "label": ["good" if n % 3 else "bad" for n in range(rows)]})
        return kit.llm(frame).parse(Review, prompt, samples=5, probabilities="samples", **options)

    return parse


def test_calibrating_changes_no_value_and_reports_rows_that_the_fit_has_not_seen(
    kit: FrameKit,
    parsed: Callable[..., Any],
) -> None:
    out = parsed()
    before = kit.rows(out)

    found = kit.llm(out).calibrate(against="label")

    assert kit.rows(out) == before
    assert (found.field, found.source, found.found.before.count) == ("mood", "samples", 80)
    assert len(kit.values(found.confidence)) == 80
    assert all(0 <= each <= 1 for each in kit.values(found.confidence))
    assert found.log_loss <= found.found.before.log_loss
    assert "mood against label: 80 labels" in repr(found)
    assert "No value was changed." in found._repr_html_()


def test_another_run_is_calibrated_only_where_it_names_the_calibration(
    kit: FrameKit, parsed: Callable[..., Any]
) -> None:
    out = parsed()
    stated = kit.column(kit.llm(out).confidence, "mood")
    found = kit.llm(out).calibrate(against="label", name="mood-1")

    plain, named = parsed(90), parsed(90, calibration="mood-1", replace=True)

    plainly = kit.column(kit.llm(plain).confidence, "mood")
    assert plainly[:80] == stated
    expected = found.found.calibrator(np.array(plainly, dtype=float))
    assert kit.column(kit.llm(named).confidence, "mood") == pytest.approx(expected.tolist())
    assert kit.column(named, "mood") == kit.column(plain, "mood")
    run_registry.forget_all()
    assert kit.column(kit.llm(named).confidence, "mood") == pytest.approx(expected.tolist())


def test_a_calibration_of_another_question_is_refused_before_anything_is_sent(
    kit: FrameKit,
    parsed: Callable[..., Any],
) -> None:
    kit.llm(parsed()).calibrate(against="label", name="mood-1")

    with pytest.raises(UsageError, match=r"fitted to another question.*Nothing was sent"):
        parsed(prompt="Now about {n}", calibration="mood-1")
    with pytest.raises(UsageError, match=r"Did you mean 'mood-1'\?.*Nothing was sent"):
        parsed(calibration="mood1")


def test_few_labels_are_refused(kit: FrameKit, parsed: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="Calibration needs at least 50"):
        kit.llm(parsed(40)).calibrate(against="label")


def test_a_calibration_without_probabilities_is_refused_before_anything_is_sent(
    kit: FrameKit, parsed: Callable[..., Any]
) -> None:
    out = parsed()
    kit.llm(out).calibrate(against="label", name="mood-1")
    pllm.configure(sim={"answers": lambda request: pytest.fail("sent")})

    with pytest.raises(
        UsageError, match=r"calibration= adjusts a confidence.*without probabilities= there is none.*Nothing was"
    ):
        kit.llm(kit.drop(out, "mood", "text")).parse(Review, "About {n}", calibration="mood-1")


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


def test_a_bias_for_an_option_is_corrected_beside_the_frame_and_said(cache_dir: object, kit: FrameKit) -> None:
    def answer(request: SimRequest) -> SimAnswer:
        p = 0.6 if int(request.prompt.split()[-1]) % 3 == 0 else 0.9  # it always says good
        return SimAnswer.value({"mood": "good", "text": "t"}, probabilities={"mood": {"good": p, "bad": 1 - p}})

    pllm.configure(sim={"answers": answer}, model="sim:openai/gpt-6-luna")
    right = ["good" if n % 3 else "bad" for n in range(150)]
    frame = kit.frame({"n": list(range(150)), "label": [one if n < 120 else None for n, one in enumerate(right)]})
    out = kit.llm(frame).parse(Review, "About {n}", effort="none", probabilities="logprobs")

    found = kit.llm(out).calibrate(against="label", field="mood").correct()

    assert [str(value) for value in list(found.values)] == right
    assert (found.changed, found.moves) == (50, (("good", "bad", 50),))
    assert (found.found.labels, found.found.accuracy_after) == (120, 1.0)
    assert found.found.accuracy_before == pytest.approx(80 / 120)
    assert repr(found) == (
        "mood: 50 values differ. Of 120 labelled rows 66.7% are right as they are, 100.0% corrected, by fits that have "
        "not seen them.\ngood → bad: 50"
    )
    assert {str(row["mood"]) for row in kit.rows(out)} == {"good"}, "the frame is as it was"


def test_labels_of_one_option_correct_nothing(cache_dir: object, kit: FrameKit) -> None:
    pllm.configure(sim={"answers": lambda request: {"mood": "good", "text": "t"}}, model="sim:openai/gpt-6-luna")
    frame = kit.frame({"n": list(range(60)), "label": ["good"] * 60})
    out = kit.llm(frame).parse(Review, "About {n}", effort="none", probabilities="logprobs")

    with pytest.raises(UsageError, match="have a label and probabilities, of 1 options"):
        kit.llm(out).calibrate(against="label", field="mood").correct()
