"""Effect of shared calls under a request limit: rows per minute and tokens per row, by rows per call.

    python benchmarks/packing.py [--requests-per-min 300] [--seconds 10] [--packs 1 5 10 20]

The simulator on loopback refuses requests beyond the limit and answers every item of a pack. As many rows are sent as
the limit lets through in *seconds*. Rows per minute are computed over the whole time, without the burst that a fresh
limit allows at the beginning. The reviews, the instruction of a hundred words and the answers are invented. Tokens
per row depend on your own data, and so does the effect on the quality of the answers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.execution.asked_model import start_simulator

_PROMPT = """You read product reviews for a shop's weekly report. For the review below, say which product it is about,
in the reviewer's own words and without its brand; whether the reviewer is on the whole content with it (positive), is
not (negative), or says both or neither (neutral); and how many stars out of five the text would deserve, whatever
the reviewer claims to have given. Go by what the text says of the product itself: complaints about the parcel, the
courier or the price are not about the product. Irony counts as what it means. If no product is named, write
"unknown".

Review:
{text}"""
_REVIEW = (
    "Number {n}. I bought this kettle in spring and it has boiled water three times a day since. It is quick, and "
    "quiet enough for a small kitchen, but the lid has begun to stick and the spout drips on the table."
)


class Review(BaseModel):
    """Facts stated in a product review."""

    product: str
    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5)


def measure(pack: int, requests_per_min: float, seconds: float, salt: str) -> dict[str, Any]:
    """Run as many rows as the limit lets through in *seconds*, and return the figures."""
    burst_s = 1.0
    pllm.configure(sim={"requests_per_min": requests_per_min, "burst_s": burst_s, "latency_s": 0.2})
    simulator = start_simulator()
    simulator.reset()
    per_s = requests_per_min / 60
    rows = int(per_s * (seconds + burst_s)) * pack
    frame = pd.DataFrame({"text": [_REVIEW.format(n=n) for n in range(rows)]})
    start = time.monotonic()
    out = frame.llm.parse(Review, _PROMPT, model="sim:openai", pack=pack, salt=salt)
    took = time.monotonic() - start
    usage, stats = out.llm.usage, simulator.stats()
    assert out["score"].notna().all()
    return {
        "rows": rows,
        "requests": stats.answered,
        "rows_per_min": (rows - per_s * burst_s * pack) / took * 60,
        "input": usage["input_tokens"].sum() / rows,
        "output": usage["output_tokens"].sum() / rows,
        "cost": usage["cost_usd"].sum() / rows * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests-per-min", type=float, default=300)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--packs", type=int, nargs="+", default=[1, 5, 10, 20])
    given = parser.parse_args()
    pllm.configure(cache_dir=tempfile.mkdtemp(), progress=False)
    print(
        "| `pack` | rows | requests | rows a minute | input tokens a row | output tokens a row | US$ for 1,000 rows |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    measure(1, given.requests_per_min, 2, "warm")  # learn the limit once, before measuring
    for pack in given.packs:
        found = measure(pack, given.requests_per_min, given.seconds, f"packs of {pack}")
        print(
            f"| {pack} | {found['rows']:,} | {found['requests']:,} | {found['rows_per_min']:,.0f} "
            f"| {found['input']:.0f} | {found['output']:.0f} | {found['cost']:.3f} |"
        )


if __name__ == "__main__":
    main()
