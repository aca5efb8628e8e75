"""A run in marimo: its progress bar in the cell while the run goes on, and the page of an ended run below it.

marimo runs a cell on its kernel's one thread and takes no clicks until the cell has ended, so a view with buttons would
be deaf in a cell that blocks; interrupting the cell stops the run. Only marimo's own threads may write to a cell.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from pllm_notebook.execution import CountsModel, RunViewModel
from pllm_notebook.notebook import progress_format
from pllm_notebook.notebook.saved_rows import saved_rows
from pllm_notebook.notebook.view_page import ended_page
from pllm_notebook.types import Progress

__all__ = ["MarimoSink", "in_marimo"]

# A run that the cache answers ends before a bar would be drawn; it only leaves its page.
_BAR_AFTER_S = 0.25
_EVERY_S = 0.5
_STOPS_IN_S = 10.0


def in_marimo() -> bool:
    """Return whether a cell of a marimo notebook runs this; imports nothing."""
    marimo = sys.modules.get("marimo")
    return marimo is not None and bool(marimo.running_in_notebook())


class MarimoSink:
    """The display of one run in marimo: a bar by `mo.status`, then the page."""

    stays = True

    def __init__(self) -> None:
        self._model: RunViewModel | CountsModel = CountsModel()
        self._progress: Progress | None = None
        self._page = ""
        self._ended = threading.Event()

    def watch(self, model: RunViewModel) -> None:
        """Take the run's model."""
        self._model = model

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the start, in the cell that is running now."""
        marimo = sys.modules["marimo"]
        self._progress = progress
        self._model.collect(progress)
        self._ended.clear()
        if in_marimo():  # a retry begins on the engine's thread, which belongs to no cell
            marimo.Thread(target=self._show, args=(marimo,), name="pllm-marimo", daemon=True).start()

    def update(self, progress: Progress) -> None:
        """Take the run as it is now; the bar looks at it on a clock of its own."""
        self._progress = progress
        self._model.collect(progress)

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Leave the page."""
        self._progress = progress
        self._model.collect(progress)
        snapshot = self._model.snapshot()
        page = ended_page(snapshot, progress_format.ended(progress), "", saved_rows(self._model, snapshot))
        self._page = page["text/html"]
        self._ended.set()

    def _show(self, marimo: Any) -> None:
        """Draw the bar until the run has ended, on a thread that may write to the cell."""
        thread = marimo.current_thread()
        if not self._ended.wait(_BAR_AFTER_S):
            assert self._progress is not None
            title = f"{self._progress.label} SIMULATED" if self._progress.simulated else self._progress.label
            with marimo.status.progress_bar(
                total=max(1, self._progress.total), title=title, show_rate=False, show_eta=False, remove_on_exit=True
            ) as bar:
                shown = 0
                while not self._ended.wait(_EVERY_S) and not thread.should_exit:
                    p = self._progress
                    ended = p.total - p.pending
                    bar.update(increment=max(0, ended - shown), subtitle=progress_format.step(p))
                    shown = max(shown, ended)
        # The run of an interrupted cell ends in a moment; one in the background goes on when its cell runs again.
        if self._ended.wait(_STOPS_IN_S):
            marimo.output.append(marimo.Html(self._page))
