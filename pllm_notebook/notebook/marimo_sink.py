"""A run in marimo: a live view in the cell during the run, and the page of the ended run below the folded view.

marimo runs a cell on its kernel's only thread and delivers no clicks until the cell has ended. Stop therefore presses
marimo's own button, which interrupts the cell; other clicks take effect after the cell. Only marimo's own threads may
write to a cell. Without the widget library, the display is a bar of `mo.status`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pllm_notebook.execution import CountsModel, RunViewModel
from pllm_notebook.notebook import progress_format
from pllm_notebook.notebook.saved_rows import saved_rows
from pllm_notebook.notebook.view_page import ended_page
from pllm_notebook.types import Progress

__all__ = ["MarimoSink", "in_marimo"]

# A run answered from the cache ends before anything is drawn, and shows only its page.
_VIEW_AFTER_S = 0.25
_EVERY_S = 0.5
# A reloaded page gets the last saved state, without the messages sent since.
_KEEP_EVERY_S = 10.0
_STOPS_IN_S = 10.0


def in_marimo() -> bool:
    """Return whether this code runs in a marimo notebook. Imports nothing."""
    marimo = sys.modules.get("marimo")
    return marimo is not None and bool(marimo.running_in_notebook())


class MarimoSink:
    """The display of one run in marimo: its view, or a bar without widgets, then the page."""

    stays = True

    def __init__(self) -> None:
        self._model: RunViewModel | CountsModel = CountsModel()
        self._progress: Progress | None = None
        self._cancel: Callable[[], None] = _nothing
        self._page = ""
        self._view: Any = None
        self._thread: threading.Thread | None = None
        self._next = self._keep_at = 0.0
        self._ended = threading.Event()

    def watch(self, model: RunViewModel) -> None:
        """Set the run's view model."""
        self._model = model

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the start of the run in the running cell. A retry continues in the existing view."""
        marimo = sys.modules["marimo"]
        self._cancel = cancel
        self._take(progress)
        self._ended.clear()
        is_shown = self._view is not None or (self._thread is not None and self._thread.is_alive())
        if not is_shown and in_marimo():  # a retry starts on the engine's thread, which does not belong to a cell
            self._thread = marimo.Thread(target=self._show, args=(marimo,), name="pllm-marimo", daemon=True)
            self._thread.start()

    def update(self, progress: Progress) -> None:
        """Show the current state of the run."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_S
        self._take(progress)
        if self._view is not None:
            self._view.push(progress)
            if now >= self._keep_at:
                self._keep_at = now + _KEEP_EVERY_S
                self._view.renew()

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Show the page of the ended run."""
        self._take(progress)
        snapshot = self._model.snapshot()
        page = ended_page(snapshot, progress_format.ended(progress), "", saved_rows(self._model, snapshot))
        self._page = page["text/html"]
        if self._view is not None:
            self._view.push(progress, last=True)
            self._view.renew()
        self._ended.set()

    def _take(self, progress: Progress) -> None:
        self._progress = progress
        self._model.collect(progress)

    def _show(self, marimo: Any) -> None:
        """Draw the run until its end, on a thread that may write to the cell."""
        thread = marimo.current_thread()
        if not self._ended.wait(_VIEW_AFTER_S):
            if not self._show_view(marimo):
                self._show_bar(marimo, thread)
            while not self._ended.wait(_EVERY_S) and not thread.should_exit:
                pass
        # The run of an interrupted cell ends shortly. A background run is shown again when its cell runs again.
        if self._ended.wait(_STOPS_IN_S):
            marimo.output.append(marimo.Html(self._page))
        else:
            self._view = None

    def _show_view(self, marimo: Any) -> bool:
        """Show the view. Return False without the widget library."""
        try:
            from pllm_notebook.notebook.view_widget import RunView
        except ImportError:
            return False
        actions: dict[str, Callable[[dict[str, Any]], object]] = {
            "stop": lambda message: self._cancel(),
            "pause": lambda message: self._with_run("pause"),
            "go_on": lambda message: self._with_run("resume"),
            "retry": self._retry_kinds,
        }
        view = RunView(self._model, actions)
        view.folds = True
        marimo.output.append(marimo.ui.anywidget(view))
        self._view = view
        return True

    def _show_bar(self, marimo: Any, thread: Any) -> None:
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

    def _with_run(self, method: str) -> None:
        if (run := self._model.run) is not None:
            getattr(run, method)()

    def _retry_kinds(self, message: dict[str, Any]) -> None:
        run, kinds = self._model.run, message.get("kinds")
        if run is not None and run.done():
            run.retry(None if kinds is None else [str(kind) for kind in kinds])


def _nothing() -> None:
    """Stop nothing: no run is open."""
