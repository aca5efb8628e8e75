"""The rows to review: their order, and the probability with which each was drawn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.frames import result_views
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.probability_views import row_confidence
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import AnswerSide
from pllm_notebook.lab.row_matching import compare_table

__all__ = ["DrawnRow", "ReviewOrder", "drawn_rows"]

ReviewOrder = Literal["doubt", "random", "changed", "disagreement"]

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class DrawnRow:
    """A row to review.

    Attributes:
        position: The row's position in the frame.
        drawn_by: "random", or the order that put the row first.
        pi: The probability with which it was drawn: 1 for the first rows of an order.
        confidence: The lowest confidence among its values. None if unknown.
    """

    position: int
    drawn_by: str
    pi: float
    confidence: float | None


def drawn_rows(
    table: Table, side: AnswerSide, order: ReviewOrder, n: int, random_share: float, old: Any
) -> list[DrawnRow]:
    """Return the rows to review, each question once.

    For an order other than "random", the first rows are drawn for certain, and a uniform sample of the others with the
    probability n₂/N₂. With these probabilities every row can count in an estimate. Both are mixed, so that the reviewer
    does not see which is which. The same call draws the same rows again.

    Raises:
        UsageError: For an order that does not exist, or a frame without an answer.
        PllmError: If the values that the order needs are unknown.
    """
    if order not in get_args(ReviewOrder):
        raise UsageError(f"order is one of {list(get_args(ReviewOrder))}, not {order!r}.")
    _, first = np.unique(side.content, return_index=True)  # equal rows have one answer, and one label
    there = np.sort(first[side.answered[first]])
    if not len(there):
        raise UsageError("No row of this frame has an answer, so there is nothing to review.")
    doubt = _doubt(table, side, order, old)
    n = min(n, len(there))
    at_random = n if order == "random" else min(n, round(random_share * n))
    by_doubt = there[np.argsort(doubt[there], kind="stable")]
    by_doubt = by_doubt[~np.isinf(doubt[by_doubt])]
    certain = by_doubt[: n - at_random].tolist()
    rest = np.setdiff1d(there, certain)
    # Ordered by content, not by position, so that sorting the frame does not change the draw.
    rest = rest[np.argsort(side.content[rest], kind="stable")].tolist()
    shuffled = random.Random(len(there))
    # The first rows of a fixed order, so that a longer review with order='random' includes the rows of a shorter one.
    drawn = shuffled.sample(rest, len(rest))[: min(at_random, len(rest))]
    confidence = {} if order != "doubt" else {row: float(doubt[row]) for row in there.tolist()}
    known = {row: c if np.isfinite(c) else None for row, c in confidence.items()}
    rows = [DrawnRow(row, str(order), 1.0, known.get(row)) for row in certain]
    mixed = [DrawnRow(row, "random", len(drawn) / len(rest), known.get(row)) for row in drawn]
    return _mixed(rows, mixed, shuffled)


def _mixed(ordered: Sequence[DrawnRow], others: Sequence[DrawnRow], draws: random.Random) -> list[DrawnRow]:
    """Merge *others* into *ordered* at random positions, keeping the order of both."""
    places = set(draws.sample(range(len(ordered) + len(others)), len(others)))
    one, two = iter(ordered), iter(others)
    return [next(two) if at in places else next(one) for at in range(len(ordered) + len(others))]


def _doubt(table: Table, side: AnswerSide, order: ReviewOrder, old: Any) -> Numbers:
    """Return a sort key for each row, smallest first. Infinite for a row that the order excludes."""
    doubt = np.full(table.total, np.inf)
    if order == "doubt":
        with np.errstate(all="ignore"):
            columns = np.array(list(row_confidence(table).values()))
        known = ~np.isnan(columns).all(axis=0) if len(columns) else np.zeros(table.total, dtype=bool)
        doubt[known] = np.nanmin(columns[:, known], axis=0)
        _check_any(known, "confidence", "probabilities='samples'")
    elif order == "disagreement":
        shares = table_of(result_views.agreement(table))
        assert shares is not None
        data = shares.column_data(list(shares.names))
        least = np.array(
            [[np.nan if gap else float(cell) for cell, gap in zip(own, gaps, strict=True)]
             for own, gaps in zip(data.values, data.missing, strict=True)]
        )  # fmt: skip
        known = ~np.isnan(least).all(axis=0)
        doubt[known] = np.nanmin(least[:, known], axis=0)
        _check_any(known, "agreement", "samples=3")
    elif order == "changed":
        found = compare_table(table, "previous" if old is None else old)
        doubt[found.rows.line[found.changed_lines]] = 0.0
    return doubt


def _check_any(known: Numbers, what: str, option: str) -> None:
    if not known.any():
        raise PllmError(f"No row of this frame has a known {what}; {option} provides it. order='random' needs none.")
