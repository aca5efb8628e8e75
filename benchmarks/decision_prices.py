"""Cost of 1,000 rows by chat and by a decision endpoint: `python benchmarks/decision_prices.py` prints the docs' table.

The estimate is made before anything is sent. The bill is computed from the simulator's tokens with genai-prices.
"""

from __future__ import annotations

import tempfile
import warnings
from typing import Literal

import pandas as pd
from pydantic import BaseModel, Field

import pllm_notebook as pllm

ROWS = 1_000
REASONING = 200


class Review(BaseModel):
    """Facts stated in a product review."""

    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5)
    recommends: bool
    topic: Literal["price", "quality", "delivery"]


def main() -> None:
    """Print the table."""
    text = "The lamp came a day late, and one of its feet is bent; the shop sent another within a week. "
    df = pd.DataFrame({"review": [f"{text * 3}Order {n}." for n in range(ROWS)]})
    ways = {
        "chat, without reasoning": ({"effort": "none"}, 0),
        f"chat, {REASONING} tokens of reasoning a row": ({}, REASONING),
        "decisions": ({"probabilities": "decisions"}, 0),
    }
    print("| 1,000 rows, `gpt-6-luna` | estimate | bill | of chat's |\n| --- | --- | --- | --- |")
    first = 0.0
    for name, (options, reasoning) in ways.items():
        with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pllm.configure(cache_dir=directory, sim={"reasoning_tokens": reasoning}, progress=False)
            asked = {"model": "sim:openai", **options}
            estimate = df.llm.estimate(Review, "Read this review:\n{review}", **asked)
            df.llm.parse(Review, "Read this review:\n{review}", **asked)
            bill = pllm.runs()[-1].cost or 0.0
            first = first or bill
            print(f"| {name} | ${estimate.cost_usd:.4f} | ${bill:.4f} | {bill / first:.2f} |")


if __name__ == "__main__":
    main()
