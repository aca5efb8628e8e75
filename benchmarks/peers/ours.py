"""This package as a notebook uses it: one call without options, unknown limits, an empty cache."""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence

import pandas as pd
from work import KEY, PROMPT, Ended, Review, Work, measure

import pllm_notebook as pllm

_SDKS = {"openai": "openai", "compatible": "openai", "anthropic": "anthropic", "google": "google.genai"}


def do(work: Work) -> list[Ended]:
    if work.provider == "compatible":
        pllm.configure(servers={"server": work.address})
    else:
        name = work.provider.upper()
        os.environ[f"{name}_BASE_URL"], os.environ[f"{name}_API_KEY"] = work.address, KEY
    prefix = "server" if work.provider == "compatible" else work.provider
    options = {} if work.timeout_s is None else {"timeout_s": work.timeout_s}
    start = time.perf_counter()
    if len(work.runs) == 1:
        ((model, texts),) = work.runs
        frame = pd.DataFrame({"text": list(texts)})
        out = frame.llm.parse(Review, PROMPT, model=f"{prefix}:{model}", **options)
        return [Ended(int(out["score"].notna().sum()), time.perf_counter() - start)]
    ended: dict[int, Ended] = {}

    def wait(nth: int, model: str, texts: Sequence[str]) -> None:
        frame = pd.DataFrame({"text": list(texts)})
        out = frame.llm.submit(Review, PROMPT, model=f"{prefix}:{model}", **options).result()
        ended[nth] = Ended(int(out["score"].notna().sum()), time.perf_counter() - start)

    threads = [threading.Thread(target=wait, args=(nth, *run)) for nth, run in enumerate(work.runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [ended[nth] for nth in range(len(work.runs))]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as directory:
        pllm.configure(cache_dir=directory, progress=False)
        measure(do, prepare=lambda work: importlib.import_module(_SDKS[work.provider]))
