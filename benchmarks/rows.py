"""Cost of a row: time and memory of this package's own parts, on a warm cache.

    python benchmarks/rows.py [--rows 100000] [--times 5]

Replies of about 1 kB are first written to a fresh cache; nothing is sent. Figures are medians over the given number of
times, in one process. Memory is the peak by which the process grew during one run, without the frame.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import orjson
import pandas as pd
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.execution.launch import build_spec, options_for
from pllm_notebook.execution.replies import ReplyParser, UnreadReply
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.frames.pandas.adapter import PandasTable
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.row_question import RowQuestion
from pllm_notebook.frames.table_rows import TableRows
from pllm_notebook.schema import OutputType
from pllm_notebook.store import open_store
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.templates import Template
from pllm_notebook.types import Finish, Reply, Usage

MODEL = "openai:gpt-6-luna"
PROMPT = "Read this review, and answer only from it:\n{text}"


class Review(BaseModel):
    """Facts stated in a product review."""

    product: str
    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5)
    price: float
    again: bool


def reply(row: int) -> tuple[Reply, bytes]:
    answer = {"product": f"thing {row}", "sentiment": "positive", "score": row % 5 + 1, "price": 1.5, "again": True}
    text = orjson.dumps(answer).decode()
    body = {
        "id": f"chatcmpl-{row:032d}", "object": "chat.completion", "created": 1_790_000_000, "model": "gpt-6-luna",
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                     "message": {"role": "assistant", "content": text, "refusal": None, "annotations": []}}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 40, "total_tokens": 240,
                  "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                  "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                                                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}},
        "service_tier": "default", "system_fingerprint": "fp_0123456789",
    }  # fmt: skip
    return Reply(text, Finish.COMPLETE, Usage(200, 40), "gpt-6-luna", body["id"]), orjson.dumps(body)


def entry(row: int) -> StoredReply:
    answer, raw = reply(row)
    return StoredReply.of(answer, raw, asked=MODEL, output_limit=None, cost_usd=4e-5, latency_s=0.5, attempts=1)


class PeakMemory:
    """The peak by which this process grew, in bytes."""

    def __enter__(self) -> PeakMemory:
        gc.collect()
        self.start = self.peak = self._now()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()
        return self

    def _sample(self) -> None:
        while not self._over.wait(0.005):
            self.peak = max(self.peak, self._now())

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watch.join()

    @staticmethod
    def _now() -> int:
        fields = Path("/proc/self/statm").read_text().split()
        return int(fields[1]) * 4096

    @property
    def grown(self) -> int:
        return self.peak - self.start


def median_us(times: int, rows: int, work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median wall-clock microseconds per row of *work*."""
    took = []
    for _ in range(times):
        gc.collect()
        start = clock()
        work()
        took.append(clock() - start)
    return statistics.median(took) / rows * 1e6


def cpu_us(times: int, rows: int, work: Callable[[], Any]) -> float:
    """Return the median CPU microseconds per row of *work* in this process."""
    return median_us(times, rows, work, time.process_time)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    rows, times = given.rows, given.times
    warnings.simplefilter("ignore")
    directory = tempfile.mkdtemp()
    pllm.configure(cache_dir=directory, progress=False, model=MODEL)
    frame = pd.DataFrame({"text": [f"review {n}: " + "it works as it should. " * 8 for n in range(rows)]})
    options, output = options_for({}), OutputType.of(Review)
    spec = build_spec(options, output, instruct=False)
    template = Template.compile(PROMPT, frame.columns)
    table = TableRows(PandasTable(frame), RowQuestion(template, ResultColumns(output, options), options, "Review"))
    everything = range(rows)
    prompts = table.prompts(everything)
    texts = [spec.encoded(prompt) for prompt in prompts]
    keys = [spec.key(text) for text in texts]
    entries = [entry(n) for n in everything]
    store = open_store()

    written: list[float] = []
    start = time.perf_counter()
    for key, made in zip(keys, entries, strict=True):
        store.put(key, made, lambda error: None)
    store.flush()
    written.append(time.perf_counter() - start)

    arrivals = [UnreadReply(n, keys[n], entries[n], n) for n in everything]
    parser = ReplyParser(spec, store, table.prompts)
    outcomes = parser.read(arrivals)
    results = ResultTable(rows)
    for n in everything:
        results.add(n, keys[n])
        results.outcomes[n] = outcomes[n]
    parts = {
        "prompt": lambda: table.prompts(everything),
        "text as JSON": lambda: [spec.encoded(prompt) for prompt in prompts],
        "key": lambda: [spec.key(text) for text in texts],
        "body": lambda: [spec.content(text) for text in texts],
        "look-up": lambda: [store.get_many(keys[n : n + 5000]) for n in range(0, rows, 5000)],
        "read and validate": lambda: parser.read(arrivals),
        "columns": lambda: table.shape.table(results),
    }
    figures = {name: median_us(times, rows, work) for name, work in parts.items()}
    whole = median_us(times, rows, lambda: frame.llm.parse(Review, PROMPT))
    with PeakMemory() as memory:
        frame.llm.parse(Review, PROMPT)
    print(f"rows {rows:,}, median of {times}, Python {sys.version.split()[0]}")
    print("| part | us a row |\n| --- | --- |")
    for name, figure in figures.items():
        print(f"| {name} | {figure:.2f} |")
    print(f"| write, until durable (once) | {written[0] / rows * 1e6:.1f} |")
    print(f"| **whole `df.llm.parse`, all cached** | **{whole:.1f}** ({1e6 / whole:,.0f} rows a second) |")
    print(f"| memory of that run, bytes a row | {memory.grown / rows:,.0f} |")


if __name__ == "__main__":
    main()
