"""Instructor over the SDK, 256 calls at once, otherwise with its defaults."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import instructor
from openai import AsyncOpenAI
from work import KEY, Review, Work, report


async def ask(work: Work, model: str, prompts: list[str]) -> Sequence[Any]:
    gate = asyncio.Semaphore(256)
    async with AsyncOpenAI(api_key=KEY, base_url=work.address, **work.timeout) as sdk:
        client = instructor.from_openai(sdk)

        async def one(prompt: str) -> Review:
            async with gate:
                return await client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": prompt}], response_model=Review
                )

        return await asyncio.gather(*map(one, prompts), return_exceptions=True)


if __name__ == "__main__":
    report(ask)
