"""langchain-openai: `with_structured_output` and `abatch`, 256 calls at once, otherwise with its defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_openai import ChatOpenAI
from work import KEY, Review, Work, report


async def ask(work: Work, model: str, prompts: list[str]) -> Sequence[Any]:
    chat = ChatOpenAI(model=model, api_key=KEY, base_url=work.address, **work.timeout)
    answers: Sequence[Any] = await chat.with_structured_output(Review).abatch(
        prompts, config={"max_concurrency": 256}, return_exceptions=True
    )
    return answers


if __name__ == "__main__":
    report(ask)
