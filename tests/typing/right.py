"""Uses that mypy and pyright accept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

import pllm_notebook as pllm


class Review(BaseModel):
    """A review."""

    stars: int


frame = pllm.frame(pd.DataFrame({"text": ["a"]}))
series = pllm.frame(pd.Series(["a"], name="text"))
longest: Callable[[list[str]], str] = max


def blocking() -> None:
    frame.parse(Review, "Read: {text}", model="openai:gpt-6-luna", max_cost_usd=5, timeout_s=30, cache="refresh")
    frame.parse(list[Review], explode="items", images=["photo"], images_from=Path("photos"), columns=("text",))
    frame.parse(bool, "{text}?", samples=3, decide="judge", judge="openai:gpt-6-luna", agreement_column="sure")
    frame.parse(bool, "{text}?", samples=3, decide=pllm.Vote(numbers="median"), max_cost_usd=None)
    frame.parse(str, "{text}?", models=["openai:a", "google:b"], decide=longest)
    frame.complete("Translate: {text}", "french", temperature=0.5, extra_body={"seed": 1})
    frame.complete("Translate: {text}", column="french", salt="2", error_column="failure")
    frame.call_tools([Review], "{text}", tool_choice="required", explode=True)
    frame.decide(["a", "b"], "{text}", column="best", judge="openai:gpt-6-luna")
    frame.preview(Review, "{text}", rows=3, pack=10)
    frame.estimate(Review, "{text}", mode="batch")
    frame.request_lines(Review, "{text}", rows=2, max_output_tokens=100)
    frame.submit(Review, "{text}", progress=False).cancel()
    series.complete("Translate: {value}", hedge=True)


async def awaited() -> None:
    await frame.aparse(Review, "{text}", na="send", nested="model")
    await frame.acomplete("{text}", max_retries=0)
    await frame.acall_tools([Review], wait=True)


def settings() -> None:
    pllm.configure(model="openai:gpt-6-luna", max_cost_usd=None, cache_dir=Path(".cache"), loop="notebook")
    pllm.configure(servers={"vllm": "http://localhost:8000/v1"}, poll=False, model=None, concurrency=8)
    options: dict[str, Any] = {}
    pllm.configure(**options)  # type: ignore[misc,unused-ignore]
