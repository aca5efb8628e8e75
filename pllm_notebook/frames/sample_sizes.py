"""The accuracy of every smaller number of samples, computed from one run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

__all__ = ["by_samples"]

_MAX_SUBSETS = 200


def by_samples(truths: np.ndarray[Any, Any], answers: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Return, for each k, the accuracy of the majority of k samples and the share of rows where any of k is right.

    `accuracy` is the accuracy of the most common of k answers, with ties won by the first (self-consistency: Wang et
    al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models", 2022). It is the mean over all
    subsets of size k, in the order of the samples. If there are more than 200 subsets, 200 are drawn at random with a
    fixed seed.

    `pass_at_k` is the probability that at least one of k samples is right, by the unbiased estimator
    1 - C(n - c, k) / C(n, k) for c right samples of n (Chen et al., "Evaluating Large Language Models Trained on
    Code", 2021). It is the accuracy that a perfect judge could reach.

    Args:
        truths: Shape (n_rows,), the label of each row as an integer code; at least one row.
        answers: Shape (n_rows, n), each sample's answer as an integer code.

    Returns:
        A line for each k from 1 to n: accuracy, pass_at_k (both 0 to 1), subsets (number of subsets).
    """
    n = answers.shape[1]
    right = answers == truths[:, np.newaxis]
    hits = right.sum(axis=1).tolist()
    lines = []
    for k in range(1, n + 1):
        subsets = _subsets(n, k)
        accuracy = np.mean([_majority_right(answers[:, chosen], right[:, chosen]) for chosen in subsets])
        missed = np.mean([comb(n - hit, k) / comb(n, k) for hit in hits])
        lines.append({"accuracy": float(accuracy), "pass_at_k": 1 - float(missed), "subsets": len(subsets)})
    return lines


def _subsets(n: int, k: int) -> Sequence[list[int]]:
    if comb(n, k) <= _MAX_SUBSETS:
        return [list(chosen) for chosen in combinations(range(n), k)]
    rng = random.Random(0)
    chosen_sets: dict[tuple[int, ...], None] = {}
    while len(chosen_sets) < _MAX_SUBSETS:
        chosen_sets[tuple(sorted(rng.sample(range(n), k)))] = None
    return [list(chosen) for chosen in chosen_sets]


def _majority_right(answers: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """Return the share of rows whose most common answer is right."""
    votes = np.zeros(answers.shape, dtype=np.int32)
    for at in range(answers.shape[1]):
        votes += answers == answers[:, [at]]
    first = votes.argmax(axis=1)  # the first of equally common answers, as in a vote
    return float(right[np.arange(len(first)), first].mean())
