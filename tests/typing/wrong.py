"""Uses that mypy and pyright refuse: one error in each line that says so, and in no other."""

from __future__ import annotations

import pandas as pd

import pllm_notebook as pllm

frame = pllm.frame(pd.DataFrame({"text": ["a"]}))


def blocking() -> None:
    frame.parse(bool, "{text}?", max_cost=5)  # refused
    frame.parse(bool, "{text}?", max_cost_usd="5")  # refused
    frame.parse(bool, "{text}?", mode="parallel")  # refused
    frame.parse(bool, "{text}?", max_retries=None)  # refused
    frame.parse(bool, "{text}?", decide="average")  # refused
    frame.parse(bool, "{text}?", extra_body=[1])  # refused
    frame.parse(bool, "{text}?", flatten="yes")  # refused
    frame.complete("{text}", explode=True)  # refused
    frame.complete("{text}", na="drop")  # refused
    frame.call_tools([bool], "{text}", samples=3)  # refused
    frame.decide(["a", "b"], "{text}", images="photo")  # refused
    frame.estimate(bool, "{text}?", concurrency=2.5)  # refused
    frame.submit(bool, "{text}?", temperature="hot")  # refused


async def awaited() -> None:
    await frame.aparse(bool, "{text}?", progres=False)  # refused
    await frame.acomplete("{text}", cache="no")  # refused


def settings() -> None:
    pllm.configure(max_cost_usd="5")  # refused
    pllm.configure(loop="mine")  # refused
    pllm.configure(servers="http://localhost")  # refused
    pllm.configure(cashe_dir=".")  # refused
