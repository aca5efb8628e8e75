"""Runs of pandas that nobody holds any more: what they make without a frame is pandas', in the order of their rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook as pllm
from tests.frames.test_recorded_runs import OPTIONS, Mark, Rich, let_go, ready

__all__ = ["ready"]

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


def texts(*values: str) -> pd.DataFrame:
    return pd.DataFrame({"t": list(values)}, index=range(10, 10 + len(values)))


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
def test_the_answers_of_a_run_that_is_not_held_are_those_of_its_result(cache_dir: Path, provider: str) -> None:
    pllm.configure(model=f"sim:{provider}")
    frame = texts("x", "y")
    for options in OPTIONS.values() if provider == "openai" else [{}]:
        out = frame.llm.parse(Rich, "{t}", **options)

        run = let_go(out)

        alone = run.to_frame()
        assert list(alone.index) == [at - 10 for at in out.index]
        pd.testing.assert_frame_equal(alone.set_axis(out.index), out.drop(columns="t"))
        pd.testing.assert_frame_equal(run.to_frame(frame), out)
        pd.testing.assert_frame_equal(run.to_frame(frame, response_format=Rich), out)
        assert run.to_frame(frame).attrs == out.attrs


def test_samples_and_agreement_outlive_the_run(ready: Path) -> None:
    out = texts("a", "unsure", "bad").llm.parse(Mark, "{t}", samples=3)
    samples, agreement = out.llm.samples, out.llm.agreement
    run = let_go(out)

    again = out.iloc[::-1].llm.samples

    same = ["label", "model", "sample", "chosen", "decided", "mark"]
    there = again.sort_values(["label", "sample"], ignore_index=True)[same]
    pd.testing.assert_frame_equal(there, samples.sort_values(["label", "sample"], ignore_index=True)[same])
    assert again["failure"].notna().tolist() == [True] * 3 + [False] * 6
    pd.testing.assert_frame_equal(out.llm.agreement, agreement)
    pd.testing.assert_frame_equal(run.to_frame(texts("a", "unsure", "bad")), out)
