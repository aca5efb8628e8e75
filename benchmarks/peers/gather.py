"""The usual first attempt: `asyncio.gather` over the SDK with its own retries, and a semaphore."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from openai import AsyncOpenAI
from work import KEY, Review, Work, report

AT_ONCE, RETRIES = 64, 2  # the SDK's default


async def ask(
    work: Work, model: str, prompts: list[str], *, at_once: int = AT_ONCE, retries: int = RETRIES
) -> Sequence[Any]:
    gate = asyncio.Semaphore(at_once)
    async with AsyncOpenAI(api_key=KEY, base_url=work.address, max_retries=retries, **work.timeout) as client:

        async def one(prompt: str) -> Review | None:
            async with gate:
                reply = await client.chat.completions.parse(
                    model=model, messages=[{"role": "user", "content": prompt}], response_format=Review
                )
            return reply.choices[0].message.parsed

        return await asyncio.gather(*map(one, prompts), return_exceptions=True)


if __name__ == "__main__":
    report(ask)
