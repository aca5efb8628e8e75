"""Plots of a comparison with matplotlib: the churn of all fields, or both distributions of one field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.lab.field_changes import FieldChange

__all__ = ["plot_churn", "plot_field"]


def plot_churn(changes: Sequence[FieldChange], ax: Any) -> Any:
    """Plot the share of changed rows by field, with 95 % intervals and a mark at the noise of asking twice."""
    known = [one for one in changes if one.compared]
    places = range(len(known))
    shares = [100 * one.churn for one in known]
    ends = [
        [max(0.0, 100 * (one.churn - one.low)) for one in known],
        [max(0.0, 100 * (one.high - one.churn)) for one in known],
    ]
    ax.barh(places, shares, xerr=ends, height=0.6, color="tab:blue", ecolor="gray", capsize=3, label="changed")
    noisy = [(at, 100 * one.noise) for at, one in zip(places, known, strict=True) if one.noise is not None]
    if noisy:
        ax.scatter([share for _, share in noisy], [at for at, _ in noisy], marker="|", s=300, color="tab:orange",
                   zorder=3, label="asked twice")  # fmt: skip
        ax.legend()
    ax.set_yticks(places, [one.field for one in known])
    ax.invert_yaxis()
    ax.set(xlabel="rows changed (%)", xlim=(0, None))
    return ax


def plot_field(change: FieldChange, names: tuple[str, str], ax: Any) -> Any:
    """Plot the number of rows with each value on both sides.

    Raises:
        UsageError: For a field with too many values.
    """
    if not change.values:
        raise UsageError(f"{change.field!r} has too many values for bars; plot() shows the churn of all fields.")
    places = range(len(change.values))
    for side, (name, shift) in enumerate(zip(names, (-0.2, 0.2), strict=True)):
        counts = [line[1 + side] for line in change.values]
        ax.bar([at + shift for at in places], counts, width=0.4, label=name)
    ax.set_xticks(places, [str(line[0]) for line in change.values], rotation=30)
    ax.set(ylabel="rows", xlabel=change.field)
    ax.legend()
    return ax
