"""openaivec's asynchronous pandas accessor, one row per call, 256 calls at once.

By default it puts several rows into one call, which saves requests rather than scheduling them. It counts tokens with a
vocabulary that it downloads. Here it counts bytes, about four times as many; a short row is far below its limit either
way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import openaivec
import pandas as pd
import tiktoken.registry
from openai import AsyncOpenAI
from openaivec import pandas_ext  # noqa: F401 - registers Series.aio
from work import KEY, Review, Work, report

BYTES = tiktoken.Encoding(
    "bytes", pat_str=r"(?s).", mergeable_ranks={bytes([n]): n for n in range(256)}, special_tokens={}
)


async def ask(work: Work, model: str, prompts: list[str]) -> Sequence[Any]:
    openaivec.set_async_client(AsyncOpenAI(api_key=KEY, base_url=work.address, **work.timeout))
    openaivec.set_responses_model(model)
    answers = await pd.Series(prompts).aio.responses(
        "Answer each.", response_format=Review, batch_size=1, max_concurrency=256, show_progress=False
    )
    return list(answers)


if __name__ == "__main__":
    for name in ("cl100k_base", "o200k_base"):
        tiktoken.registry.ENCODINGS[name] = BYTES
    report(ask)
