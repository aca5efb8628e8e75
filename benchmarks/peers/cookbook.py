"""The method of the OpenAI cookbook's parallel request processor, reimplemented from its description.

It knows the limits. One loop sends requests: it starts with a full minute's capacity of requests and tokens, refills
both continuously, sends when one more request and its estimated tokens fit, sleeps 1 ms, and sends nothing for 15 s
after any rate-limit error. Each request has five attempts; a failed one goes back to the end of the queue. It uses
HTTP without an SDK.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import aiohttp
from work import KEY, Review, Work, report

ATTEMPTS = 5
PAUSE_S = 15.0
TURN_S = 0.001
ANSWER_TOKENS = 30


class Capacity:
    """A capacity per minute that is refilled continuously."""

    def __init__(self, per_min: float | None) -> None:
        self.per_min = per_min or math.inf
        self.left = self.per_min
        self.at = time.monotonic()

    def has(self, amount: float) -> bool:
        now = time.monotonic()
        if self.per_min < math.inf:
            self.left = min(self.per_min, self.left + (now - self.at) * self.per_min / 60)
        self.at = now
        return self.left >= amount


class Processor:
    """One run's queue and capacities, and the time of the last rate-limit error."""

    def __init__(self, work: Work, model: str, prompts: list[str], session: aiohttp.ClientSession) -> None:
        per_min, tokens_per_min = work.sim.get("limits", {}).get(model) or (
            work.sim.get("requests_per_min"),
            work.sim.get("tokens_per_min"),
        )
        self.url = f"{work.address}/chat/completions"
        self.model = model
        self.session = session
        self.requests, self.tokens = Capacity(per_min), Capacity(tokens_per_min)
        self.queue = deque((row, prompt, ATTEMPTS) for row, prompt in enumerate(prompts))
        self.answers: list[Any] = [None] * len(prompts)
        self.refused_at = -math.inf

    async def send(self, row: int, prompt: str, attempts: int) -> None:
        schema = {**Review.model_json_schema(), "additionalProperties": False}
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "Review", "schema": schema, "strict": True},
            },
        }
        try:
            async with self.session.post(self.url, json=body) as response:
                if response.status == 429:
                    self.refused_at = time.monotonic()
                response.raise_for_status()
                reply = await response.json()
            self.answers[row] = Review.model_validate_json(reply["choices"][0]["message"]["content"])
        except (TimeoutError, aiohttp.ClientError):
            if attempts > 1:
                self.queue.append((row, prompt, attempts - 1))

    async def run(self) -> Sequence[Any]:
        tasks: set[asyncio.Task[None]] = set()
        while self.queue or tasks:
            if self.queue:
                row, prompt, attempts = self.queue[0]
                tokens = len(prompt) / 4 + ANSWER_TOKENS
                if self.requests.has(1) and self.tokens.has(tokens):
                    self.queue.popleft()
                    self.requests.left -= 1
                    self.tokens.left -= tokens
                    task = asyncio.create_task(self.send(row, prompt, attempts))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            await asyncio.sleep(TURN_S)
            pause_s = self.refused_at + PAUSE_S - time.monotonic()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
        return self.answers


async def ask(work: Work, model: str, prompts: list[str]) -> Sequence[Any]:
    timeout = aiohttp.ClientTimeout(total=work.timeout_s)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        return await Processor(work, model, prompts, session).run()


if __name__ == "__main__":
    report(ask)
