"""Reliability and savings of `guarantee=`: simulated tables whose answers are all known.

    python -m benchmarks.guarantees [--tables 500]

No model is asked, not even a simulated one: a table has each row's confidence, whether its low-cost answer differs,
and whether that costs accuracy. The package's own procedure (`ensemble.sample_looks`) decides. Tables have 2 to 6
classes, one field or three fields with correlated errors, and 300 to 20,000 rows. Every third table has copied rows.
Confidence is from token probabilities or from three samples. The number of strong answers is shown with that for
perfect knowledge.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
import scipy

from pllm_notebook.ensemble.sample_looks import Look, look_at
from pllm_notebook.statistics import Guarantee, known_threshold

__all__ = ["KINDS", "Played", "Table", "play", "table", "tables"]

Numbers = np.ndarray[Any, np.dtype[Any]]

# Logit of the probability that an answer without doubt equals the strong model's, the weight of doubt, and the share of
# rows that differ although they are stated as sure.
KINDS = {
    "easy": (5.0, 2.5, 0.0),
    "medium": (3.5, 2.0, 0.0),
    "surely wrong": (5.0, 2.5, 0.02),
    "hopeless": (0.4, 0.0, 0.0),
}
_LINES = {
    **{kind: {kind, "tokens"} for kind in KINDS},
    "easy, one field": {"easy", "tokens", "one field"},
    "easy, three fields": {"easy", "tokens", "three fields"},
    "easy, three samples": {"easy", "samples"},
    "all": set[str](),
}
_HEAD = ("tables", "promise broken", "nothing promised", "rows by the strong model", "of 300 to 1,000 rows",
         "of more than 5,000", "with perfect knowledge")  # fmt: skip
USUAL = Guarantee(0.95, 0.95)


class Table(NamedTuple):
    """The rows of a table, with what a guarantee uses.

    Attributes:
        words: How the table was made.
        confidence: Confidence in each row's low-cost answer: the lowest of its fields.
        differs: Whether the low-cost answer differs from the strong one in any field.
        lost: Whether any field of the low-cost answer is wrong while the strong answer is right.
        groups: The group of equal rows to which each row belongs.
        right: Whether the low-cost answer is right in every field, so that no strong answer is needed. None if unknown.
    """

    words: frozenset[str]
    confidence: Numbers
    differs: Numbers
    lost: Numbers
    groups: Numbers
    right: Numbers | None = None


class Played(NamedTuple):
    """The result of the procedure on one table.

    Attributes:
        state: See `GuaranteeFigures`.
        kept: Whether each row keeps its low-cost answer.
        bad: How many of these are bad.
        looks: Number of looks.
    """

    state: str
    kept: Numbers
    bad: int
    looks: int


def table(
    rng: np.random.Generator, rows: int, classes: int, fields: int, kind: str, *, samples: int = 0, copies: bool = False
) -> Table:
    """Make a table. With *samples*, confidence is the share of samples that agree. With *copies*, rows repeat."""
    level, weight, surely = KINDS[kind]
    distinct = rows if not copies else max(rows // 3, 50)
    shared = rng.normal(size=distinct)
    confidence = np.ones(distinct)
    differs, lost = np.zeros(distinct, dtype=bool), np.zeros(distinct, dtype=bool)
    right = np.ones(distinct, dtype=bool)
    for _ in range(fields):
        doubt = 0.7 * shared + 0.7 * rng.normal(size=distinct)
        truth = rng.integers(0, classes, distinct)
        strong = np.where(rng.random(distinct) < 0.92, truth, _other(rng, truth, classes))
        p = 1 / (1 + np.exp(weight * doubt - level))
        cheap = np.where(rng.random(distinct) < p, strong, _other(rng, strong, classes))
        stated = np.maximum(1 / (1 + np.exp(2 * doubt - 3.5 + 0.7 * rng.normal(size=distinct))), 1 / classes)
        if samples:
            others = rng.random((samples - 1, distinct)) < stated
            stated = (1 + others.sum(axis=0)) / samples
        surely_wrong = rng.random(distinct) < surely
        cheap = np.where(surely_wrong, _other(rng, strong, classes), cheap)
        confidence = np.minimum(confidence, np.where(surely_wrong, stated.max(), stated))
        differs |= cheap != strong
        lost |= (cheap != truth) & (strong == truth)
        right &= cheap == truth
    groups = np.arange(rows)
    if copies:
        popular = 1 / np.arange(1, distinct + 1) ** 0.8
        groups = rng.choice(distinct, rows, p=popular / popular.sum())
    words = {kind, "one field" if fields == 1 else "three fields", "samples" if samples else "tokens"}
    return Table(frozenset(words), confidence[groups], differs[groups], lost[groups], groups, right[groups])


def tables(count: int, seed: int = 5) -> list[Table]:
    """Make tables of all kinds."""
    rng, made = np.random.default_rng(seed), []
    kinds = list(KINDS)
    for at in range(count):
        rows = int(np.exp(rng.uniform(np.log(300), np.log(20_000))))
        kind, fields, samples = kinds[at % len(kinds)], (1, 3)[at // 4 % 2], (0, 0, 0, 3)[at // 8 % 4]
        classes = int(rng.integers(2, 7))
        made.append(table(rng, rows, classes, fields, kind, samples=samples, copies=at % 3 == 0))
    return made


def play(given: Table, guarantee: Guarantee = USUAL, *, against_labels: bool = False) -> Played:
    """Run the procedure as a run does, with known answers."""
    bad = given.lost if against_labels else given.differs
    right = given.right if against_labels else None
    needs = None if right is None else lambda row, group: not right[row]
    look, asked, looks = Look(), set[int](), 0
    while look.state is None:
        look = look_at(look, guarantee, given.groups, given.confidence, asked, lambda groups: None,
                       lambda row, group: bool(bad[row]), needs)  # fmt: skip
        asked.update(look.ask)
        looks += bool(look.ask)
    kept = (given.confidence >= look.best.threshold) & ~np.isin(given.groups, list(asked))
    return Played(look.state, kept, int((kept & bad).sum()), looks)


def _other(rng: np.random.Generator, than: Numbers, classes: int) -> Numbers:
    return (than + 1 + rng.integers(0, classes - 1, len(than))) % classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=500)
    count = parser.parse_args().tables
    made = tables(count)
    for against_labels in (False, True):
        what = "accuracy lost, against labels" if against_labels else "answers that differ"
        print(f"\n{what}: {count} tables, guarantee=0.95, confidence_level=0.95\n")
        print(f"| {' | '.join(_HEAD)} |")
        print("| --- " * len(_HEAD) + "|")
        played = [play(given, against_labels=against_labels) for given in made]
        for name, words in _LINES.items():
            at = [n for n, given in enumerate(made) if words <= given.words]
            line = _line([made[n] for n in at], [played[n] for n in at], against_labels=against_labels)
            print(f"| {name}: {len(at)} | {line} |")


def _line(own: list[Table], played: list[Played], *, against_labels: bool) -> str:
    rows = np.array([len(given.confidence) for given in own])
    broken = sum(one.bad > USUAL.allowed(len(one.kept)) for one in played)
    strong = np.array([1 - one.kept.mean() for one in played])
    bads = [given.lost if against_labels else given.differs for given in own]
    best = [(given.confidence < known_threshold(given.confidence, bad, USUAL)).mean()
            for given, bad in zip(own, bads, strict=True)]  # fmt: skip
    high = scipy.stats.binomtest(broken, len(own)).proportion_ci().high
    silent = sum(one.state != "proved" for one in played)
    parts = [strong, strong[rows < 1_000], strong[rows > 5_000], np.array(best)]
    shares = [f"{part.mean():.0%}" if len(part) else "" for part in parts]
    return " | ".join([f"{broken} (at most {high:.1%})", str(silent), *shares])


if __name__ == "__main__":
    main()
