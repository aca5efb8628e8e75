"""The intervals of shares and of differences hold the truth as often as they say, with copies too."""

from __future__ import annotations

import numpy as np
import pytest

from pllm_notebook.lab.paired_tests import difference_interval, effective_count, share_interval

TABLES = 1_000


def copied(rng: np.random.Generator, distinct: int, *, times: int) -> np.ndarray:
    """Draw which question each row is: each question has 1 to *times* rows."""
    return np.repeat(np.arange(distinct), rng.integers(1, times + 1, distinct))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize(("distinct", "times"), [(50, 1), (200, 1), (200, 8)])
def test_the_interval_of_a_share_holds_it(share: float, distinct: int, times: int) -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(TABLES):
        question = copied(rng, distinct, times=times)
        counted = (rng.random(distinct) < share)[question].mean()
        worth = effective_count(question)
        low, high = share_interval(counted * worth, worth)
        held += low <= share <= high

    # Of a share of which hardly a row is expected, Wilson's interval holds less often than it says.
    assert held / TABLES >= (0.93 if share * distinct >= 5 else 0.91)


@pytest.mark.parametrize("gain", [0.0, 0.05, 0.15])
@pytest.mark.parametrize(("distinct", "times"), [(50, 1), (300, 1), (300, 8)])
def test_the_interval_of_a_difference_holds_it(gain: float, distinct: int, times: int) -> None:
    rng = np.random.default_rng(2)
    chances = [0.05, 0.90 - gain, 0.05 + gain]
    held = 0
    for _ in range(TABLES):
        question = copied(rng, distinct, times=times)
        change = rng.choice([-1, 0, 1], distinct, p=chances)[question]
        _, low, high = difference_interval(change, question)
        held += low <= gain <= high

    assert held / TABLES >= 0.93
