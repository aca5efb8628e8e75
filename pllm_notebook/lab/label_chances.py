"""The draw probability of each labelled row, and the reasons why labels may not be a sample of the table's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pllm_notebook.formatting import counted
from pllm_notebook.statistics import chances_fit

__all__ = ["label_chances"]

Numbers = np.ndarray[Any, np.dtype[Any]]


def label_chances(
    known: Sequence[tuple[float, str | None] | None], content: Numbers, shown: Numbers
) -> tuple[Numbers, str]:
    """Return the draw probability of each row, and the reason if the labels are not a sample of these rows.

    "random" labels were drawn uniformly among the rows that were not labelled for certain. After several reviews, each
    label has the probability of its own draw only, so the share of those rows that is labelled now is used instead.

    The model is right more often about rows that it was shown as examples, or near-duplicates of them, so their labels
    say nothing about the other rows. A shown row with a label therefore counts for certain, by its label, and the other
    labels are drawn among the rows that were not shown.

    Args:
        known: The probability and kind of each row's draw. None for a row without one.
        content: A hash for each row, equal for equal rows.
        shown: Whether the model was shown each row, or a near-duplicate, as an example; shape (n,), bool.
    """
    pi = np.array([np.nan if one is None else one[0] for one in known])
    _, first, at = np.unique(content, return_index=True, return_inverse=True)
    one, total = pi[first], len(first)
    labelled = ~np.isnan(one)
    if not labelled.any():
        return pi, ""
    if problem := _problem(one, [known[row] for row in first.tolist()]):
        return pi, problem
    is_example = shown[first]
    drawn = labelled & (one < 1) & ~is_example
    if is_example.any():
        one = np.where(labelled & is_example, 1.0, one)
        total -= int((is_example & ~labelled).sum())
        if not drawn.any() and int(labelled.sum()) < total:
            return pi, "the model was shown all labelled rows as examples, or nearly, so they say nothing of the others"
    if {(known[row] or (0, None))[1] for row in first[drawn].tolist()} == {"random"}:
        certain = int(labelled.sum() - drawn.sum())
        one = np.where(drawn, drawn.sum() / (total - certain), one)
    return one[at.reshape(-1)], ""


def _problem(one: Numbers, known: Sequence[tuple[float, str | None] | None]) -> str:
    """Return why the probabilities do not fit a draw from these distinct rows, or "" if they do."""
    total, labelled = len(one), ~np.isnan(one)
    drawn = labelled & (one < 1)
    certain = int(labelled.sum() - drawn.sum())
    expected = float((1 / one[labelled]).sum())
    if not drawn.any():
        if certain == total:
            return ""
        return (
            f"{counted(certain, 'label')} with the chance 1, and {total - certain:,} distinct rows without a label: "
            f"these are not known"
        )
    words = {(known[at] or (0, None))[1] for at in np.flatnonzero(drawn).tolist()}
    drawn_twice = words == {"random"} and expected > total
    if not drawn_twice and not chances_fit(one[labelled], total):
        return (
            f"the chances of the labels are those of a draw from some {expected:,.0f} distinct rows, and there are "
            f"{total:,}: rows were skipped, or added since the draw"
        )
    return ""
