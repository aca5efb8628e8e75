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
    frame.reduce("Combine: {summary}", by="document", tokens=10_000, max_cost_usd=5)
    frame.chunks("text", tokens=500, overlap=20)
    frame.race(Review, {"A": "{text}", "B": None}, effort=[None, "low"], against="stars", max_cost_usd=5, rule="proof")
    frame.improve(Review, against="labels", proposer="openai:gpt-6", seed=1, max_cost_usd=5)
    frame.recheck(Review, n=50, effort="low", mode="batch")
    run: pllm.Run = frame.submit(Review, "{text}")
    run.pause()
    run.retry(["timeout"]).wait(5.0)


async def awaited() -> None:
    await frame.aparse(Review, "{text}", na="send", nested="model")
    await frame.acomplete("{text}", max_retries=0)
    await frame.acall_tools([Review], wait=True)


def settings() -> None:
    pllm.configure(model="openai:gpt-6-luna", max_cost_usd=None, cache_dir=Path(".cache"), loop="notebook")
    pllm.configure(servers={"vllm": "http://localhost:8000/v1"}, poll=False, model=None, concurrency=8)
    options: dict[str, Any] = {}
    pllm.configure(**options)  # type: ignore[misc,unused-ignore]


async def lists_and_programs() -> None:
    utilities = pllm.ParallelAIUtilities(pllm.RequestLimits(max_requests_per_minute=500), mode="batch", max_cost_usd=5)
    await utilities.run_parallel_ai_completion([])
    framework = pllm.create_framework(num_processors=5, timeout=20, log_level="DEBUG")
    framework.update_config(decision_maker_model=None, max_retries=0)
    await framework.parse(
        "openai:a", [{"role": "user", "content": "a"}], Review, temperature=0, max_tokens=100, cache="off", seed=1
    )
    framework.chat.completions.parse_sync(messages=[], models=["openai:a", "google:b"], timeout=10.0, top_p=0.5)
    with pllm.resume_directory(".pllm/enzymes", strategy="batch", max_cost_usd=5, wait=True) as session:
        agent = session.agent("reader")
        agent.ask_llm("Read.", llm="openai:a", temperature=0.2, max_tokens=100, reasoning={"effort": "low"})
        agent.ask_llm("Read.", response_format=Review, max_repairs=2, tool_choice="required", stop=["."])


def batches() -> None:
    for _ in pllm.parse_batches([pd.DataFrame({"text": ["a"]})], Review, "Read: {text}", rows=10, max_cost_usd=5):
        pass


def datasets() -> None:
    pllm.parse_dataset("in.parquet", "out", Review, "Read: {text}", rows=1_000, max_cost_usd=5)
    pllm.compare({"A": "{text}", "B": "Read: {text}"}, Review, on=pd.DataFrame({"text": ["a"]}), model="openai:a")
    pllm.run("0123abcd").to_frame()


async def awaited_batches() -> None:
    async for _ in pllm.aparse_batches([pd.DataFrame({"text": ["a"]})], Review, "Read: {text}", progress=False):
        pass


def dataset() -> None:
    done = pllm.parse_dataset("in/*.parquet", "out/", Review, "Read: {text}", rows=10, status=False, max_cost_usd=5)
    pllm.parse_dataset(object(), Path("out"), Review, shard=(0, 3)).retry(["refusal"], max_cost_usd=5)
    print(pllm.open_dataset("out/").progress().is_complete)
    print(done.paths, done.cost_usd)
    done.scan()
