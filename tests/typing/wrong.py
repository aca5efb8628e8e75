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
    frame.submit(bool, "{text}?").execution.fail()  # refused
    frame.race(bool, {"A": "{text}?"}, against="good", mode="batch")  # refused
    frame.improve(bool, against="good", samples=3)  # refused
    frame.recheck(bool, salt="2")  # refused
    frame.reduce("{text}", max_cost_usd="5")  # refused


async def awaited() -> None:
    await frame.aparse(bool, "{text}?", progres=False)  # refused
    await frame.acomplete("{text}", cache="no")  # refused


def settings() -> None:
    pllm.configure(max_cost_usd="5")  # refused
    pllm.configure(loop="mine")  # refused
    pllm.configure(servers="http://localhost")  # refused
    pllm.configure(cashe_dir=".")  # refused


async def lists_and_programs() -> None:
    pllm.ParallelAIUtilities(samples=3)  # refused
    pllm.ParallelAIUtilities(mode="live")  # refused
    pllm.create_framework(processors=5)  # refused
    framework = pllm.create_framework()
    framework.update_config(timeout="20")  # refused
    await framework.parse(messages=[], max_cost_usd="5")  # refused
    framework.parse_sync(messages=[], pack=10)  # refused
    framework.chat.completions.parse_sync(messages=[], temprature=0)  # refused
    pllm.resume_directory(".pllm/enzymes", stratgy="batch")  # refused
    with pllm.resume_directory(".pllm/enzymes") as session:
        agent = session.agent("reader")
        agent.ask_llm("Read.", max_repairs="2")  # refused
        agent.ask_llm("Read.", samples=2)  # refused
    pllm.resume_directory(".pllm/enzymes", errors="ignore")  # refused
    pllm.resume_directory(".pllm/enzymes", batch_from="many")  # refused
