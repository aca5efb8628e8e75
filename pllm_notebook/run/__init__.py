"""Plan, look up, send what is missing, report: the only composer of the rooms below it."""

from pllm_notebook.run.estimate import Estimate
from pllm_notebook.run.explain import Explanation
from pllm_notebook.run.outcomes import Ledger, Outcome
from pllm_notebook.run.registry import find, runs
from pllm_notebook.run.run import Rows, Run
from pllm_notebook.run.sinks import register
from pllm_notebook.run.start import ask_for, estimate_rows, options_for, start

__all__ = [
    "Estimate",
    "Explanation",
    "Ledger",
    "Outcome",
    "Rows",
    "Run",
    "ask_for",
    "estimate_rows",
    "find",
    "options_for",
    "register",
    "runs",
    "start",
]
