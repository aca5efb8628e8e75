"""Plan, look up, send what is missing, report: the only composer of the rooms below it.

`pllm.run("id")` opens a run: this room has the name of that function, so it can be called.
"""

import sys
from types import ModuleType
from typing import Any

from pllm_notebook.run.ask import Ask
from pllm_notebook.run.budget import Purse
from pllm_notebook.run.composed import ComposedCourse
from pllm_notebook.run.conductor import Conductor
from pllm_notebook.run.course import Course, Listener, State
from pllm_notebook.run.estimate import Estimate
from pllm_notebook.run.explain import Explanation
from pllm_notebook.run.jobs.confirm import confirm
from pllm_notebook.run.list_estimate import estimate_list
from pllm_notebook.run.lists import Part, parts_of, start_list
from pllm_notebook.run.outcomes import Ledger, Outcome
from pllm_notebook.run.pace import Pace
from pllm_notebook.run.planner import Chunk, Prompts, WholePrompts
from pllm_notebook.run.registry import find, forget, runs
from pllm_notebook.run.request_lines import RequestLines, request_lines
from pllm_notebook.run.run import Rows, Run
from pllm_notebook.run.start import Means, ask_for, estimate_rows, instruction_for, options_for, start
from pllm_notebook.sinks import register

__all__ = [
    "Ask",
    "Chunk",
    "ComposedCourse",
    "Conductor",
    "Course",
    "Estimate",
    "Explanation",
    "Ledger",
    "Listener",
    "Means",
    "Outcome",
    "Pace",
    "Part",
    "Prompts",
    "Purse",
    "RequestLines",
    "Rows",
    "Run",
    "State",
    "WholePrompts",
    "ask_for",
    "confirm",
    "estimate_list",
    "estimate_rows",
    "find",
    "forget",
    "instruction_for",
    "options_for",
    "parts_of",
    "register",
    "request_lines",
    "runs",
    "start",
    "start_list",
]


class _Callable(ModuleType):
    """This room, which `pllm.run("id")` calls."""

    def __call__(self, run_id: str) -> Any:
        """Open a run by its id (see `frames.runs.open_run`)."""
        door: Any = sys.modules[__name__.partition(".")[0]]
        return door._open_run(run_id)


sys.modules[__name__].__class__ = _Callable
