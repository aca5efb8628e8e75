"""Cost of a row in each dataframe library: CPU time of the adapters' parts, and of a whole run on a warm cache.

    python -m benchmarks.frames [--rows 50000] [--times 7]

Rows have two input columns and replies five fields. The answers are written to a fresh cache once, because a row has
the same key in every library; nothing is sent. Libraries take turns in each round, and ratios are relative to pandas
in the same round, so that other work on the machine affects all of them.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa

import pllm_notebook as pllm
from benchmarks.rows import MODEL, Review, entry
from pllm_notebook.execution import live_of
from pllm_notebook.execution.launch import build_spec, options_for
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.row_question import RowQuestion
from pllm_notebook.frames.table_rows import TableRows
from pllm_notebook.schema import OutputType
from pllm_notebook.store import open_store
from pllm_notebook.templates import Template

PROMPT = "Read this review of item {item}, and answer only from it:\n{text}"
LIBRARIES: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "pandas": pd.DataFrame,
    "Polars": pl.DataFrame,
    "Arrow": pa.table,
}
PARTS = ("cells", "prompts", "columns", "whole run, all cached")


def cpu_us(rows: int, work: Callable[[], Any]) -> float:
    """Return the CPU time of all threads, in microseconds per row."""
    gc.collect()
    start = time.process_time()
    work()
    return (time.process_time() - start) / rows * 1e6


class Library:
    """The parts of a run over one library's frame, each measured alone."""

    def __init__(self, frame: Any, rows: int) -> None:
        self.frame, self.rows = frame, rows
        options, output = options_for({}), OutputType.of(Review)
        found = table_of(frame)
        assert found is not None
        self.table, self.shape = found, ResultColumns(output, options)
        self.template = Template.compile(PROMPT, list(found.names))
        self.question = RowQuestion(self.template, self.shape, options, "Review")
        self.spec = build_spec(options, output, instruct=False)

    def prompts(self) -> Any:
        return TableRows(self.table, self.question).prompts(range(self.rows))

    def parts(self, results: ResultTable) -> dict[str, Callable[[], Any]]:
        prompted = TableRows(self.table, self.question)  # its cells are read here
        return {
            "cells": lambda: self.table.column_data(self.template.names),
            "prompts": lambda: prompted.prompts(range(self.rows)),
            "columns": lambda: self._columns(results),
            "whole run, all cached": lambda: pllm.parse(self.frame, Review, PROMPT),
        }

    def _columns(self, results: ResultTable) -> Any:
        columns, origin = self.shape.table(results)
        build = self.table.frame_library.array
        made = {column.name: build(column, values) for column, values in zip(self.shape.columns, columns, strict=True)}
        return self.table.join(made, origin, (), explode=False, run_id="run")


def answered(library: Library) -> ResultTable:
    """Write every row's answer to the cache, and return the answers as in a run."""
    spec = library.spec
    keys = [spec.key(spec.encoded(prompt)) for prompt in library.prompts()]
    store = open_store()
    for row, key in enumerate(keys):
        store.put(key, entry(row), lambda error: None)
    store.flush()
    run = pllm.submit(library.frame, Review, PROMPT)
    run.wait()
    return live_of(run).table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--times", type=int, default=7)
    given = parser.parse_args()
    rows = given.rows
    warnings.simplefilter("ignore")
    pllm.configure(cache_dir=tempfile.mkdtemp(), progress=False, model=MODEL)
    texts = [f"review {n}: " + "it works as it should. " * 8 for n in range(rows)]
    columns = {"item": list(range(rows)), "text": texts}
    libraries = {name: Library(make(columns), rows) for name, make in LIBRARIES.items()}
    results = answered(libraries["pandas"])
    parts = {name: library.parts(results) for name, library in libraries.items()}
    figures: dict[str, dict[str, list[float]]] = {name: {part: [] for part in PARTS} for name in libraries}
    for _ in range(given.times):
        for part in PARTS:
            for name in libraries:
                figures[name][part].append(cpu_us(rows, parts[name][part]))
    for own in figures.values():
        adapter = zip(*(own[part] for part in PARTS[:3]), strict=True)
        own["cells + prompts + columns"] = [sum(each) for each in adapter]
    print(f"rows {rows:,}, median of {given.times}: CPU us a row, and the median ratio to pandas in the same round\n")
    print("| part |", " | ".join(libraries), "|\n| --- |", " | ".join("---" for _ in libraries), "|")
    for part in (*PARTS[:3], "cells + prompts + columns", PARTS[3]):
        shown = []
        for name, own in figures.items():
            ratio = statistics.median(a / b for a, b in zip(own[part], figures["pandas"][part], strict=True))
            shown.append(f"{statistics.median(own[part]):.2f}" + (f" ({ratio:.2f})" if name != "pandas" else ""))
        print(f"| {part} |", " | ".join(shown), "|")


if __name__ == "__main__":
    main()
