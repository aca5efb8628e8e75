"""Cost of comparing two runs, relative to a rerun from the cache. Nothing is sent.

    python -m benchmarks.compare [--rows 100000] [--times 5]

The two runs have the same rows and different prompts. Their replies are first written to a fresh cache; one row in ten
has a different answer. Measured with both runs in memory, and with neither, as in a new kernel. Figures are medians of
the CPU time of the whole process.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import replace

import pandas as pd

import pllm_notebook as pllm
from benchmarks.rows import MODEL, Review, cpu_us, entry, reply
from pllm_notebook.execution import run_registry
from pllm_notebook.execution.launch import build_spec, options_for
from pllm_notebook.schema import OutputType
from pllm_notebook.store import open_store
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.templates import Template

PROMPTS = ("Read this review:\n{text}", "Read this review, and answer only from it:\n{text}")


def fill_cache(frame: pd.DataFrame) -> None:
    """Write the replies of both prompts to the cache."""
    spec = build_spec(options_for({}), OutputType.of(Review), instruct=False)
    store = open_store()
    for prompt in PROMPTS:
        template = Template.compile(prompt, frame.columns)
        for row, text in enumerate(frame["text"]):
            known = entry(row)
            if prompt == PROMPTS[1] and row % 10 == 0:
                answer, raw = reply(row)
                other = replace(answer, text=answer.text.replace("positive", "negative"))
                known = StoredReply.of(other, raw, asked=MODEL, output_limit=None, cost_usd=4e-5, latency_s=0.5,
                                       attempts=1)  # fmt: skip
            store.put(spec.key(spec.encoded(template.source.replace("{text}", text))), known, lambda error: None)
    store.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    rows, times = given.rows, given.times
    warnings.simplefilter("ignore")
    pllm.configure(cache_dir=tempfile.mkdtemp(), progress=False, model=MODEL)
    frame = pd.DataFrame({"text": [f"review {n}: " + "it works as it should. " * 8 for n in range(rows)]})
    fill_cache(frame)
    rerun = cpu_us(times, rows, lambda: frame.llm.parse(Review, PROMPTS[0]))
    runs = [frame.llm.submit(Review, prompt, cache="only") for prompt in PROMPTS]
    old, new = (run.result() for run in runs)
    found = new.llm.compare(old)
    assert len(found) == -(-rows // 10), len(found)
    in_memory = {
        "two frames": cpu_us(times, rows, lambda: new.llm.compare(old)),
        "a frame and a run": cpu_us(times, rows, lambda: new.llm.compare(runs[0])),
        "shown as HTML": cpu_us(times, rows, lambda: new.llm.compare(old)._repr_html_()),
    }
    identity = runs[0].id
    runs.clear()

    def forgotten() -> None:
        run_registry.forget_all()
        assert len(new.llm.compare(identity)) == -(-rows // 10)

    from_cache = cpu_us(times, rows, forgotten)
    print(f"| {rows:,} rows | us a row | s |\n| --- | --- | --- |")
    for name, took in {"a rerun, all cached": rerun, **in_memory, "a frame and a run in the cache": from_cache}.items():
        print(f"| {name} | {took:.2f} | {took * rows / 1e6:.2f} |")
    print(f"from the cache: {from_cache / rerun:.2f} reruns")


if __name__ == "__main__":
    main()
