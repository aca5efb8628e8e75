"""An estimate of many samples counts them all and walks the rows a bounded number of times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.ensemble import estimate, spec_for
from pllm_notebook.execution import WholePrompts
from pllm_notebook.options import Options
from pllm_notebook.schema import OutputType
from pllm_notebook.sim import SimAnswer

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

BOUND = 100_000  # calls of which nothing is known


class CountedTexts(WholePrompts):
    """Rows that count how many prompts are made of them, and so how many keys."""

    label = "texts"

    def __init__(self, total: int) -> None:
        self.total = total
        self.made = 0

    def prompts(self, rows: range) -> Sequence[str]:
        self.made += len(rows)
        return [f"row {row % (self.total - 1)}" for row in rows]  # the last equals the first

    def assemble(self, run: Any) -> None:
        return None

    def errors(self, run: Any) -> None:
        return None


def question(**options: Any) -> Any:
    return spec_for(Options(model="sim:openai", **options), OutputType.of(bool), instruct=False)


def texts(count: int) -> pd.DataFrame:
    return pd.DataFrame({"t": [f"text {n}" for n in range(count)]})


def test_ten_thousand_samples_of_some_hundred_rows_are_not_all_walked(cache_dir: Path) -> None:
    rows = CountedTexts(301)

    found = estimate(question(samples=10_000), rows)

    one = estimate(question(), CountedTexts(301))
    assert (found.calls, found.input_tokens) == (10_000 * 300, 10_000 * one.input_tokens)
    assert (found.rows, found.duplicates, found.cached) == (301, 1, 0)
    assert rows.made <= BOUND + 2 * rows.total


def test_without_a_cache_the_rows_are_walked_once_for_each_model(cache_dir: Path) -> None:
    rows = CountedTexts(11)

    found = estimate(question(samples=50, models=("sim:openai", "sim:anthropic"), cache="off"), rows)

    assert found.calls == 2 * 50 * 10
    assert rows.made == 2 * 11


def test_few_samples_of_many_rows_are_all_walked(cache_dir: Path) -> None:
    rows = CountedTexts(BOUND // 4)

    estimate(question(samples=6), rows)

    assert rows.made == 6 * rows.total


def test_samples_that_are_known_are_counted_before_those_that_are_not(cache_dir: Path) -> None:
    frame = texts(1_000)
    frame.head(3).llm.parse(bool, "{t}", model="sim:openai", samples=12)

    found = frame.llm.estimate(bool, "{t}", model="sim:openai", samples=150)

    assert (found.cached, found.calls) == (3 * 12, 1_000 * 150 - 3 * 12)


def test_a_gap_in_the_samples_hides_none_behind_it(cache_dir: Path) -> None:
    answers = iter([SimAnswer.status(500)] * 15 + [{"value": True}] * 5)
    pllm.configure(sim={"answers": lambda request: next(answers)}, model="sim:openai")
    texts(1).llm.parse(bool, "{t}", samples=20, concurrency=1, max_retries=0)

    found = texts(1).llm.estimate(bool, "{t}", samples=30)

    assert (found.cached, found.calls) == (5, 25)


def test_samples_of_two_names_of_one_model_are_counted_together(cache_dir: Path) -> None:
    models = ("sim:openai", "sim:anthropic", "sim:openai")

    members = question(samples=2, models=models).members

    assert [(member.model, member.sample, member.spec.sample) for member in members] == [
        (member.model, at, at) for member, at in zip(members, (0, 1, 0, 1, 2, 3), strict=True)
    ]


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_each_model_and_each_effort_is_named_once(cache_dir: Path, samples: int) -> None:
    models = ["sim:openai", "sim:google", "sim:openai"]
    one, other = (texts(2).llm.estimate(bool, "{t}", model=model) for model in models[:2])

    found = texts(2).llm.estimate(bool, "{t}", models=models, samples=samples)

    assert found.model == f"{one.model}, {other.model}"
    assert found.effort == ", ".join(dict.fromkeys([one.effort, other.effort]))
