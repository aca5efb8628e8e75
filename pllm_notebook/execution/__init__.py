"""Plan a run, look up what is cached, send the rest, record the results: the only composer of the rooms below."""

from pllm_notebook.display_registry import register_display
from pllm_notebook.execution.budget import RunBudget
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.confirmation import confirm
from pllm_notebook.execution.decider import Decider
from pllm_notebook.execution.estimate import Estimate
from pllm_notebook.execution.execute import Execution
from pllm_notebook.execution.explain import Explanation
from pllm_notebook.execution.launch import (
    ServiceFactory,
    build_spec,
    estimate_rows,
    instruction_for,
    look_after_jobs,
    options_for,
    start,
)
from pllm_notebook.execution.lists import Part, estimate_list, parts_of, start_list
from pllm_notebook.execution.progress import RunProgress
from pllm_notebook.execution.request_preview import RequestLines, request_lines
from pllm_notebook.execution.results import Outcome, ResultTable
from pllm_notebook.execution.row_source import DerivedRows, Rows, RowSource, WholePrompts
from pllm_notebook.execution.run import Run
from pllm_notebook.execution.run_registry import find, forget, runs

__all__ = [
    "CallSpec",
    "Decider",
    "DerivedRows",
    "Estimate",
    "Execution",
    "Explanation",
    "Outcome",
    "Part",
    "RequestLines",
    "ResultTable",
    "RowSource",
    "Rows",
    "Run",
    "RunBudget",
    "RunProgress",
    "ServiceFactory",
    "WholePrompts",
    "build_spec",
    "confirm",
    "estimate_list",
    "estimate_rows",
    "find",
    "forget",
    "instruction_for",
    "look_after_jobs",
    "options_for",
    "parts_of",
    "register_display",
    "request_lines",
    "runs",
    "start",
    "start_list",
]
