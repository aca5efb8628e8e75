"""`pllm.runs()` in a notebook: a table as plain HTML, with a button in each line to open the run below it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import traitlets

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import Run, live_of
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.frames.runs import Runs, open_run
from pllm_notebook.notebook.placed_widget import PlacedWidget, module
from pllm_notebook.notebook.recorded_page import recorded_page
from pllm_notebook.notebook.text import CellOutput
from pllm_notebook.notebook.view_sink import attach_view
from pllm_notebook.shell import current_shell

__all__ = ["RunsTable", "show_table"]

logger = logging.getLogger("pllm_notebook")


class RunsTable(PlacedWidget):
    """The buttons of one table.

    The browser sends `{"do": "open", "run": id}`.

    Args:
        runs: The runs in the table. A line that combines several runs opens as a table of them.
        place: The output of the table. A run opens in another output of the same cell.
    """

    kind = "runs"
    _esm = module("runs_table.js")

    runs: Any = traitlets.List().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, runs: Runs, place: CellOutput) -> None:
        # Keyed by the last run of each line, whose answers are the result.
        self._lines = {line[-1].id: [run.id for run in line] for line in runs.lines()}
        self._opened: set[str] = set()
        self._parents = _parents()
        super().__init__(place, runs._repr_html_(), runs=list(self._lines))

    def take(self, message: dict[str, Any]) -> None:
        if message.get("run") not in self.runs:
            return
        try:
            with _published_for(self._parents):
                self._place.within(lambda: self._open(message["run"]))
            self.problem = ""
        except PllmError as error:
            self.problem = str(error)
        except Exception as error:
            logger.exception("The run %s could not be opened", message["run"])
            self.problem = f"{type(error).__name__}: {error}"

    def _open(self, run_id: str) -> None:
        """Open a line once: a run of this kernel as a view, another run as a page, several runs as a table."""
        run, *others = [open_run(each) for each in self._lines[run_id]]
        if isinstance(run, Run) and not others:
            attach_view(live_of(run))
        elif run_id not in self._opened:
            if others:
                show_table(Runs([run, *others], is_whole=True))
            elif isinstance(run, RecordedRun):
                self._place.beside().show(recorded_page(run))
            self._opened.add(run_id)


def _parents() -> list[tuple[Any, Any]]:
    """Return each object that holds the parent message of all output, with that message.

    Empty from ipykernel 7 on, where the parent message is a context variable.
    """
    shell: Any = current_shell()
    places: tuple[Any, ...] = (shell, getattr(shell, "display_pub", None))
    return [
        (each, each.parent_header)
        for each in places
        if hasattr(each, "parent_header") and not isinstance(getattr(type(each), "parent_header", None), property)
    ]


@contextmanager
def _published_for(parents: list[tuple[Any, Any]]) -> Iterator[None]:
    """Publish output in an earlier cell, because a click has no cell of its own.

    Before version 7, ipykernel takes the cell from an attribute.
    """
    before = _parents()
    for each, parent in parents:
        each.parent_header = parent
    try:
        yield
    finally:
        for each, parent in before:
            each.parent_header = parent


def show_table(runs: Runs) -> None:
    """Show the table of *runs* in the running cell, with its buttons."""
    RunsTable(runs, CellOutput()).start(repr(runs))
