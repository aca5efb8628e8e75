"""The promise about a table holds as often as it says, by the procedure that runs go through, over many kinds of table.

`python -m benchmarks.guarantees` prints the figures of 500 tables, which docs/guarantee.md has.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from benchmarks.guarantees import USUAL, Played, Table, play, table, tables
from pllm_notebook.ensemble.sample_looks import Look, look_at


def strong_share(played: list[Played]) -> float:
    return float(np.mean([1 - one.kept.mean() for one in played]))


LONG = [pytest.mark.full, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("count", "against_labels"),
    [(40, False), (16, True), pytest.param(500, False, marks=LONG), pytest.param(500, True, marks=LONG)],
)
def test_the_promise_holds_as_often_as_it_says(count: int, against_labels: bool) -> None:
    made = tables(count)

    played = [play(given, against_labels=against_labels) for given in made]

    broken = sum(one.bad > USUAL.allowed(len(one.kept)) for one in played)
    assert broken <= scipy.stats.binom.ppf(0.999, count, 0.05)
    both = list(zip(made, played, strict=True))
    assert strong_share([one for given, one in both if {"easy", "tokens"} <= given.words]) < 0.55
    assert strong_share([one for given, one in both if "hopeless" in given.words]) > 0.9


def test_copies_are_counted_as_the_rows_that_they_are() -> None:
    rng = np.random.default_rng(3)
    broken = 0
    for _ in range(30):
        given = table(rng, 1_000, 3, 1, "medium", copies=True)
        played = play(given)
        broken += played.bad > USUAL.allowed(1_000)
        assert not played.kept[np.isin(given.groups, given.groups[~played.kept])].any(), "equal rows go together"

    assert broken <= scipy.stats.binom.ppf(0.999, 30, 0.05)


def test_a_larger_sample_is_drawn_only_where_it_is_likely_to_keep_more() -> None:
    rows = 1_000
    sure = Table(frozenset(), np.ones(rows), np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool), np.arange(rows))
    torn = table(np.random.default_rng(0), 5_000, 3, 1, "medium")

    assert (play(sure).looks, play(sure).kept.sum()) == (1, rows - 100)
    assert play(torn).looks > 1


def test_rows_that_labels_settle_are_drawn_and_counted_but_not_asked() -> None:
    given = table(np.random.default_rng(1), 1_000, 3, 1, "medium")
    assert given.right is not None
    plain = play(given._replace(right=None), against_labels=True)

    saved = play(given, against_labels=True)

    drawn = np.zeros(1_000, dtype=bool)
    look = look_at(Look(), USUAL, given.groups, given.confidence, set(), lambda groups: None,
                   lambda row, group: False, lambda row, group: not given.right[row])  # fmt: skip
    drawn[list(look.ask)] = True
    assert drawn.any()
    assert not (drawn & given.right).any()
    assert saved.kept.sum() > plain.kept.sum()
    assert saved.bad <= USUAL.allowed(1_000)


def test_a_table_that_is_too_small_is_asked_nothing_for_its_sample() -> None:
    look = look_at(Look(), USUAL, np.arange(10), np.ones(10), set(), lambda groups: None, lambda row, group: False)

    assert look == Look(state="too_few")


def test_an_answer_that_cannot_be_had_ends_the_looks() -> None:
    ended = Look(state="unfinished")

    look = look_at(Look(), USUAL, np.arange(500), np.ones(500), set(range(500)), lambda groups: ended,
                   lambda row, group: False)  # fmt: skip

    assert look is ended
