"""Remake the figure of docs/confidence.md, and print the figures in its text: a simulated model with a known fault.

    python -m docs.images.make_reliability      # writes reliability.png beside this file

The simulator is wrong in a known share of its values and surer than it should be. Nothing is sent to a provider and no
key is needed. Takes about half a minute.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from pydantic import BaseModel

import pllm_notebook as pllm

HERE = Path(__file__).parent
ROWS, ERRORS, TEMPERATURE = 1_000, 0.2, 2.5


class Review(BaseModel):
    """Facts stated in a product review."""

    sentiment: Literal["positive", "negative", "neutral"]


def main() -> None:
    """Ask, calibrate and draw."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    pllm.configure(
        cache_dir=tempfile.mkdtemp(),
        progress=False,
        sim={
            "answers": lambda request: {"sentiment": "negative"},
            "known_errors": ERRORS,
            "miscalibration": {"temperature": TEMPERATURE},
        },
    )
    df = pd.DataFrame({"review": [f"Lamp {n} leaks." for n in range(ROWS)], "label": "negative"})
    out = df.llm.parse(Review, "{review}", model="sim:openai/gpt-6-luna", effort="none", probabilities="logprobs")
    found = out.llm.calibrate(against="label", field="sentiment")
    print(found)

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2))
    found.plot(ax=left)
    share = doubted_errors(out)
    right.plot(np.arange(1, ROWS + 1) / ROWS, share, label="least confident first")
    right.plot([0, 1], [0, 1], linestyle=":", color="grey", label="in any order")
    right.set(xlabel="share of the rows reviewed", ylabel="share of the errors found", title="A review by doubt")
    right.legend()
    figure.tight_layout()
    figure.savefig(HERE / "reliability.png", dpi=110)
    for reviewed in (0.1, 0.2, 0.5):
        print(f"{reviewed:.0%} reviewed: {share[round(reviewed * ROWS) - 1]:.0%} of the errors")


def doubted_errors(out: pd.DataFrame) -> np.ndarray:
    """Return the share of all errors among the least confident rows, for each number of rows; shape (n_rows,)."""
    sure = out.llm.confidence["sentiment"].to_numpy(dtype=float)
    wrong = (out["sentiment"].astype(str) != out["label"]).to_numpy()
    found: np.ndarray = np.cumsum(wrong[np.argsort(sure, kind="stable")]) / wrong.sum()
    return found


if __name__ == "__main__":
    main()
