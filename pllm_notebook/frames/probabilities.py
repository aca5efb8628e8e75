"""The probabilities of each field's options for some rows of a run, from the source that the run has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import LiveRun
from pllm_notebook.frames.decision_shares import decision_shares
from pllm_notebook.frames.kept_calibrations import calibrated
from pllm_notebook.frames.probability_types import Numbers, RowProbabilities
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.sample_shares import sample_shares
from pllm_notebook.frames.token_shares import token_shares

__all__ = ["least_confidence", "least_sure", "probabilities_of", "stated_probabilities_of"]


def probabilities_of(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> RowProbabilities:
    """Return the probabilities of some rows of a run, with its confidence calibrated (`calibration=`). Sends nothing.

    Args:
        run: The run, in memory or from the registry.
        rows: Rows of the run, in the order of the result.

    Raises:
        PllmError: If the run has no probabilities.
        UsageError: If a calibration that it names no longer exists.
    """
    found = stated_probabilities_of(run, rows)
    sources = {part.field: part.source for part in found.parts}
    return replace(found, confidence=calibrated(found.confidence, run, sources))


def stated_probabilities_of(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> RowProbabilities:
    """Return the stated probabilities of some rows of a run, without any calibration.

    Args:
        run: The run, in memory or from the registry.
        rows: Rows of the run, in the order of the result.

    Raises:
        PllmError: If the run has no probabilities.
    """
    found = decision_shares(run, rows) or token_shares(run, rows) or sample_shares(run, rows)
    if found is None:
        raise PllmError(
            "This run has no probabilities. They need probabilities=: True, or 'samples' with samples=5, for example."
        )
    return found


def least_sure(found: RowProbabilities, total: int) -> tuple[Numbers, list[str | None]]:
    """Return the lowest confidence of each row and its field; NaN and None for a row without a confidence."""
    if not found.confidence or not total:
        return np.full(total, np.nan), [None] * total
    names = list(found.confidence)
    table = np.stack([found.confidence[name] for name in names])
    filled = np.where(np.isnan(table), np.inf, table)
    at = filled.argmin(axis=0)
    least = filled[at, np.arange(total)]
    known = np.isfinite(least)
    return np.where(known, least, np.nan), [names[one] if here else None for one, here in zip(at, known, strict=True)]


def least_confidence(run: LiveRun | RegisteredRun, rows: Sequence[int]) -> list[float | None]:
    """Return the lowest confidence of some rows of a run; None for a row that is -1 or has no confidence."""
    known = [row for row in dict.fromkeys(rows) if row >= 0]
    least, _ = least_sure(probabilities_of(run, known), len(known))
    found = dict(zip(known, least.tolist(), strict=True))
    return [None if (p := found.get(row)) is None or p != p else p for row in rows]
