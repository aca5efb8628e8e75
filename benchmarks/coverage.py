"""Coverage and width of the intervals of corrected means. Simulated; nothing is sent.

    python -m benchmarks.coverage [--times 1000]

Tables have 5,000 rows. 22 % of the answers are wrong, more often for some values of x, and 33 % in a hard group. The
true mean is that of the distribution from which the tables are drawn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.statistics import CorrectedMean, corrected_mean

Numbers = np.ndarray[Any, np.dtype[Any]]

ROWS = 5_000


class World(NamedTuple):
    """One table: correct and given answers, the model's confidence, and two groups of 10 %, the second hard."""

    y: Numbers
    guess: Numbers
    sure: Numbers
    group: Numbers
    hard: Numbers


def world(rng: np.random.Generator, rows: int = ROWS) -> World:
    """Draw a table of yes-or-no answers."""
    x, draw = rng.normal(size=rows), rng.random(rows)
    group, hard = draw < 0.1, draw > 0.9
    y = rng.random(rows) < 1 / (1 + np.exp(-(0.8 * x - 0.4)))
    wrong = np.clip(0.17 + 0.08 * (x > 0) + 0.12 * hard, 0, 1)
    # More wrong yes than wrong no, so that the answers alone are biased.
    missed = rng.random(rows) < np.where(y, 0.7 * wrong, 1.3 * wrong)
    sure = np.clip(1 - wrong + rng.normal(0, 0.1, rows) - 0.3 * (missed & (rng.random(rows) < 0.6)), 0, 1)
    return World(y.astype(float), np.where(missed, ~y, y).astype(float), sure, group, hard)


def copies(rng: np.random.Generator, one: World) -> tuple[World, Numbers]:
    """Repeat questions so that a few are in many rows, more often those whose answer is yes."""
    times = np.minimum(rng.zipf(2.5, len(one.y)), 50) + one.y.astype(int)
    question = np.repeat(np.arange(len(one.y)), times)
    return World(*(column[question] for column in one)), question


def drawn(rng: np.random.Generator, among: Numbers, count: int) -> Numbers:
    """Draw rows uniformly. Return whether each row was drawn."""
    made = np.zeros(len(among), dtype=bool)
    made[rng.choice(np.flatnonzero(among), count, replace=False)] = True
    return made


def uniform(rng: np.random.Generator, one: World, labels: int) -> CorrectedMean:
    """Correct with a uniform draw."""
    return corrected_mean(one.y, one.guess, drawn(rng, np.ones(len(one.y), bool), labels))


def naive(rng: np.random.Generator, one: World, labels: int) -> CorrectedMean:
    """Treat the answers as the truth."""
    return corrected_mean(one.guess, one.guess, np.ones(len(one.y), bool))


def doubtful_as_uniform(rng: np.random.Generator, one: World, labels: int) -> CorrectedMean:
    """Label the doubtful rows, but treat them as a uniform draw."""
    chosen = np.zeros(len(one.y), bool)
    chosen[np.argsort(one.sure)[:labels]] = True
    return corrected_mean(one.y, one.guess, chosen)


def doubtful_and_uniform(rng: np.random.Generator, one: World, labels: int) -> CorrectedMean:
    """Spend half of the labels on the doubtful rows, and half on a uniform draw of the other rows."""
    certain = np.zeros(len(one.y), bool)
    certain[np.argsort(one.sure)[: labels // 2]] = True
    rest = drawn(rng, ~certain, labels - labels // 2)
    pi = np.where(certain, 1.0, rest.sum() / (~certain).sum())
    return corrected_mean(one.y, one.guess, certain | rest, pi)


def unequal(rng: np.random.Generator, one: World, labels: int) -> CorrectedMean:
    """Draw each row with its own probability, which is higher if the model is less sure."""
    pi = np.clip((1.2 - one.sure) / (1.2 - one.sure).sum() * labels, 0, 1)
    return corrected_mean(one.y, one.guess, rng.random(len(pi)) < pi, pi)


def of_group(rng: np.random.Generator, one: World, labels: int) -> CorrectedMean:
    """Correct a group of 10 % with the labels in it."""
    return uniform(rng, World(*(column[one.group] for column in one)), labels)


def of_hard_group(rng: np.random.Generator, one: World, labels: int) -> CorrectedMean:
    """Correct the group in which 33 % of the answers are wrong."""
    return uniform(rng, World(*(column[one.hard] for column in one)), labels)


# The true mean is the same in each group.
TRUE_MEAN = float(np.mean(world(np.random.default_rng(1), 1_000_000).y))
Draw = Callable[[np.random.Generator, World, int], CorrectedMean]


def coverage(draw: Draw, labels: int, times: int, rows: int = ROWS) -> tuple[float, float]:
    """Return the share of intervals that contain the true mean, and their mean width."""
    rng = np.random.default_rng(labels)
    made = [draw(rng, world(rng, rows), labels) for _ in range(times)]
    held = [one.low <= TRUE_MEAN <= one.high for one in made]
    return float(np.mean(held)), float(np.mean([one.high - one.low for one in made]))


def copied_coverage(labels: int, times: int, *, clustered: bool) -> float:
    """Return the coverage for questions that are in many rows and have one label each."""
    rng = np.random.default_rng(7)
    truth = float(np.mean(copies(rng, world(rng, 300_000))[0].y))
    held = []
    for _ in range(times):
        one, question = copies(rng, world(rng, 2_000))
        chosen = drawn(rng, np.ones(2_000, bool), labels)[question]
        made = corrected_mean(one.y, one.guess, chosen, question=question if clustered else None)
        held.append(made.low <= truth <= made.high)
    return float(np.mean(held))


def main() -> None:
    """Print the tables of docs/report.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1_000)
    times = parser.parse_args().times
    cases: list[tuple[str, Draw, tuple[int, ...]]] = [
        ("answers as they are", naive, (100, 200, 300)),
        ("corrected, uniform labels", uniform, (100, 200, 300)),
        ("corrected, doubtful rows taken for uniform", doubtful_as_uniform, (100, 200, 300)),
        ("corrected, half doubtful and half uniform", doubtful_and_uniform, (100, 200, 300)),
        ("corrected, unequal chances", unequal, (100, 200, 300)),
        ("group of 500 rows", of_group, (10, 20, 30, 49)),
        ("hard group of 500 rows", of_hard_group, (10, 20, 30, 49)),
    ]
    for name, draw, counts in cases:
        found = [coverage(draw, labels, times) for labels in counts]
        print(f"| {name} | {' / '.join(map(str, counts))} | "
              f"{' / '.join(f'{100 * share:.1f}' for share, _ in found)} % | "
              f"{' / '.join(f'{width:.3f}' for _, width in found)} |")  # fmt: skip
    for clustered in (True, False):
        share = copied_coverage(200, times, clustered=clustered)
        print(
            f"| copies, {'by question' if clustered else 'rows as if each were its own'} | 200 | {100 * share:.1f} % |"
        )


if __name__ == "__main__":
    main()
