"""The frame of `df.llm.agreement`, with a plot."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pllm_notebook.statistics import new_axes

__all__ = ["Agreement"]

_BINS = 10


class Agreement(pd.DataFrame):
    """Shares of samples that agree, from 0 to 1 (see `df.llm.agreement`). Frames derived from it are plain frames."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def plot(self, *, bins: int = _BINS, ax: Any = None) -> Any:  # type: ignore[override]
        """Plot a histogram of the shares for each field.

        Args:
            bins: Number of bins from 0 to 1.
            ax: matplotlib axes to plot on, None for a new figure.

        Returns:
            The axes.

        Raises:
            MissingPackageError: If matplotlib is not installed.
        """
        ax = new_axes("The plot of agreement", (7, 3)) if ax is None else ax
        edges = [at / bins for at in range(bins + 1)]
        columns = [self[name].dropna().astype(float).to_list() for name in self.columns]
        ax.hist(columns, bins=edges, label=list(self.columns))
        ax.set_xlabel("share of samples with the most common value")
        ax.set_ylabel("rows")
        ax.legend(frameon=False)
        return ax
