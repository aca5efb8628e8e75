"""A run's view in the cell that started it: saved words, a live view over them, and a page of HTML at the end.

The words keep a place for the view. A browser that finds it there (JupyterLab, Notebook) mounts the view in it, and
the notebook never has a widget in any output: saved, exported or reopened at whatever moment, it shows the words or
the page. Where no browser says that it has (VS Code, Colab), the view is an output of its own, which is emptied when
the run has ended.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pllm_notebook.execution import CountsModel, RunViewModel
from pllm_notebook.formatting import counted
from pllm_notebook.notebook import progress_format
from pllm_notebook.notebook.text import VIEW, CellOutput
from pllm_notebook.notebook.view_page import ended_page, running_words
from pllm_notebook.notebook.view_widget import RunView
from pllm_notebook.runtime import Slot
from pllm_notebook.types import Progress

__all__ = ["ViewSink"]

# A run that the cache answers ends before a view would be drawn; it only leaves its page.
_VIEW_AFTER_S = 0.25
_EVERY_S = 0.25
# A browser that finds the place says so at once, or on a busy machine after seconds: a view apart that is shown too
# early would be saved with the notebook. Where no browser looks for the place there is nothing to wait for.
_APART_AFTER_S = 5.0
# Views of ended runs that stay live, so that rows can be opened and failures retried.
_MOST_VIEWS = 8
_ended_views: Slot[deque[ViewSink]] = Slot("ended views", deque)


class ViewSink:
    """The display of one run in a kernel."""

    stays = True

    def __init__(self) -> None:
        self._model: RunViewModel | CountsModel = CountsModel()
        self._place: CellOutput | None = None
        self._apart: CellOutput | None = None
        self._view: RunView | None = None
        self._cancel: Callable[[], None] = _nothing
        self._next = self._apart_at = 0.0
        self._is_placed = False
        self._answered_before: int | None = None

    def watch(self, model: RunViewModel) -> None:
        """Take the run's model."""
        self._model = model

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the start, in the cell that is running now; a later call goes on in the same place."""
        self._cancel = cancel
        self._model.collect(progress)
        if self._place is None:
            self._place = CellOutput()
            self._show(running_words(progress, self._model.sections(progress)["head"]["started_at"]))
        elif self._view is not None:
            self._view.push(progress, last=True)

    def update(self, progress: Progress) -> None:
        """Show the run as it is now; only what changed is sent to the browser."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_S
        self._model.collect(progress, now)
        if self._view is not None:
            self._view.push(progress)
            if not self._is_placed and self._apart is None and now >= self._apart_at:
                self._place_apart(self._view)
        elif self._place is not None and progress.elapsed_s >= _VIEW_AFTER_S:
            self._place.within(lambda: self._draw(progress))

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Leave the page, and let the view go on over it where a browser can."""
        if self._place is None:
            return
        self._model.collect(progress)
        note = self._further(progress)
        if self._view is None and progress.failed and retry is not None:
            self._place.within(lambda: self._draw(progress))  # for its Retry
        if self._view is not None:
            self._view.push(progress, last=True, note=note)
        snapshot = self._model.snapshot()
        if self._view is not None:
            self._view.keep(snapshot, note)
        self._show(ended_page(snapshot, progress_format.ended(progress), note, self._model.saves_rows))
        self._remove_apart()
        if self._view is not None and self not in _ended_views.value:
            _ended_views.value.append(self)
            while len(_ended_views.value) > _MOST_VIEWS:
                _ended_views.value.popleft().release()

    def release(self) -> None:
        """Close the view: what is in its place is the page alone."""
        if self._view is not None:
            view, self._view = self._view, None
            view.close()
            view.layout.close()

    def _further(self, progress: Progress) -> str:
        """Say what a retry has brought that the caller's frame has not."""
        answered, before = progress.done + progress.cached, self._answered_before
        if before is None:
            self._answered_before = answered
        if before is None or answered <= before:
            return ""
        more = counted(answered - before, "more row", "is", "answered")
        return f"{more}. Run the cell again, which is free, and its result has them too."

    def _draw(self, progress: Progress) -> None:
        assert self._place is not None
        self._view = RunView(
            self._model,
            {
                "stop": lambda message: self._cancel(),
                "pause": lambda message: self._with_run("pause"),
                "go_on": lambda message: self._with_run("resume"),
                "retry": self._retry_kinds,
                "placed": lambda message: self._placed(),
            },
        )
        if progress.state == "running":
            self._show(running_words(progress, self._model.sections(progress)["head"]["started_at"]))
        self._apart_at = time.monotonic() + (0.0 if _has_no_place() else _APART_AFTER_S)

    def _place_apart(self, view: RunView) -> None:
        assert self._place is not None
        self._apart = self._place.beside()
        shown = {VIEW: {"version_major": 2, "version_minor": 0, "model_id": view.model_id}}
        self._apart.show({"text/plain": "", **shown})

    def _placed(self) -> None:
        self._is_placed = True
        self._remove_apart()

    def _show(self, bundle: dict[str, Any]) -> None:
        assert self._place is not None
        if self._view is not None:
            bundle = {**bundle, "text/html": _in_place(bundle["text/html"], self._view.view_id)}
        self._place.show(bundle)

    def _remove_apart(self) -> None:
        if self._apart is not None:
            self._apart.show({"text/plain": "", "text/html": ""})

    def _with_run(self, method: str) -> None:
        run = self._model.run
        if run is not None:
            getattr(run, method)()

    def _retry_kinds(self, message: dict[str, Any]) -> None:
        run, kinds = self._model.run, message.get("kinds")
        if run is None or not run.done():
            return
        run.retry(None if kinds is None else [str(kind) for kind in kinds])


def _has_no_place() -> bool:
    """Return whether the notebook is shown by a program that mounts a view in an output of its own alone."""
    return "VSCODE_PID" in os.environ or "google.colab" in sys.modules


def _in_place(html: str, view: str) -> str:
    """Return HTML in the place where a browser mounts the view with that id."""
    return f'<div class="pllm-place" data-pllm-view="{view}">{html}</div>'


def _nothing() -> None:
    """Stop nothing: no run is open."""
