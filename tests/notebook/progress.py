"""A progress to show, with what a test changes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pllm_notebook.types import Progress

START = Progress(
    label="Review", model="openai:gpt-6-luna", simulated=False, total=200, done=0, cached=0, failed=0, skipped=0,
    in_flight=0, elapsed_s=0.0, rows_per_s=0.0, eta_s=None, input_tokens=0, output_tokens=0, cost_usd=0.0,
    budget_usd=None, note="", state="running",
)  # fmt: skip


def at(**values: Any) -> Progress:
    return replace(START, **values)
