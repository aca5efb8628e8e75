"""A run's display in the cell that started it: a saved text, a live view in its place, and an HTML page at the end.

The text has a placeholder for the view. A browser that finds the placeholder (JupyterLab, Notebook) mounts the view
there, so no output of the notebook contains a widget: saved, exported or reopened at any time, it shows the text or the
page. If no browser reports that it found the placeholder (VS Code, Colab), the view gets a separate output, which is
emptied at the end of the run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pllm_notebook.execution import CountsModel, LiveRun, Run, RunViewModel, live_lines, live_of, view_model
from pllm_notebook.formatting import counted
from pllm_notebook.notebook import progress_format
from pllm_notebook.notebook.saved_rows import saved_rows
from pllm_notebook.notebook.text import VIEW, CellOutput, has_no_place, running_cell
from pllm_notebook.notebook.view_page import ended_page, running_words, with_lines
from pllm_notebook.notebook.view_widget import RunView
from pllm_notebook.runtime import Slot
from pllm_notebook.types import Progress

__all__ = ["ViewSink", "attach_view", "show_run"]

# A run answered from the cache ends before a view is drawn, and shows only its page.
_VIEW_AFTER_S = 0.25
_EVERY_S = 0.25
# A browser that finds the placeholder reports it at once, or after some seconds on a busy machine. A separate view that
# is shown too early would be saved with the notebook. A front end that ignores placeholders needs no wait.
_APART_AFTER_S = 5.0
# A reloaded page has no view until the kernel opens one. While a cell blocks, only the kernel can start this.
_ASK_EVERY_S = 3.0
_SILENT_AFTER_S = 8.0
_MOST_SILENT_S = 60.0
# Maximum number of live views of ended runs, where rows can be opened and failures retried.
_MOST_VIEWS = 8
_ended_views: Slot[deque[ViewSink]] = Slot("ended views", deque)


def show_run(run: Run) -> None:
    """Show a live view of *run* in the running cell, unless it already has one."""
    attach_view(live_of(run))


def attach_view(run: LiveRun) -> None:
    """Show a live view of *run* in the running cell, unless it already has one."""
    model, cell = view_model(run), running_cell()
    if not any(viewer.is_shown_in(cell) for viewer in model.viewers):
        sink = ViewSink(is_attached=True)
        sink.watch(model)
        run.attach(sink)


class ViewSink:
    """The display of one run in a kernel.

    Args:
        is_attached: Whether the user asked to see the run. It then has a live view even if it has ended.
    """

    stays = True

    def __init__(self, *, is_attached: bool = False) -> None:
        self._is_attached = is_attached
        self._model: RunViewModel | CountsModel = CountsModel()
        self._place: CellOutput | None = None
        self._apart: CellOutput | None = None
        self._view: RunView | None = None
        self._cancel: Callable[[], None] = _nothing
        self._next = self._apart_at = 0.0
        self._asked_at = self._answered_at = 0.0
        self._patience_s = _SILENT_AFTER_S
        self._is_placed = self._is_over = False
        self._answered_before: int | None = None

    def watch(self, model: RunViewModel) -> None:
        """Set the run's view model."""
        self._model = model

    def is_shown_in(self, cell: str) -> bool:
        """Return whether this cell execution has, or will have, the live view."""
        is_here = self._place is not None and self._place.cell == cell != ""
        return is_here and (self._view is not None or not self._is_over)

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the start in the running cell. A later call continues in the same place."""
        self._cancel = cancel
        self._is_over = False
        self._model.collect(progress)
        if self._place is None:
            self._place = CellOutput()
            self._model.add_viewer(self)
            if self._is_attached:
                self._draw(progress)
            self._show(running_words(progress, self._model.sections(progress)["head"]["started_at"]))
        elif self._view is not None:
            self._view.push(progress, last=True)

    def update(self, progress: Progress) -> None:
        """Show the current state of the run. Only changes are sent to the browser."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_S
        self._model.collect(progress, now)
        if self._view is not None:
            self._view.push(progress, asks=self._asks(now))
            if not self._is_placed and self._apart is None and now >= self._apart_at:
                self._place_apart(self._view)
        elif self._place is not None and progress.elapsed_s >= _VIEW_AFTER_S:
            self._place.within(lambda: self._draw(progress))

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Show the page of the ended run, and keep the view in its place if the browser supports it."""
        if self._place is None:
            return
        self._model.collect(progress)
        note = self._further(progress)
        self._is_over = True
        if self._view is None and ((progress.failed and retry is not None) or self._is_attached):
            self._place.within(lambda: self._draw(progress))  # for its Retry button
        if self._view is not None:
            self._view.push(progress, last=True, note=note)
        snapshot = self._model.snapshot()
        if self._view is not None:
            self._view.keep(snapshot, note)
        said = "" if progress.open_jobs else note  # already part of the line
        self._show(ended_page(snapshot, progress_format.ended(progress), said, saved_rows(self._model, snapshot)))
        self._remove_apart()
        if self._view is not None and self not in _ended_views.value:
            _ended_views.value.append(self)
            while len(_ended_views.value) > _MOST_VIEWS:
                _ended_views.value.popleft().release()

    def release(self) -> None:
        """Close the view. Only the page remains in its place."""
        if self._view is not None:
            view, self._view = self._view, None
            view.close()
            view.layout.close()

    def _asks(self, now: float) -> bool:
        """Return whether to ask the browser for a sign of life. Reopen the view if it no longer answers."""
        if not self._is_placed or now - self._asked_at < _ASK_EVERY_S:
            return False
        if self._asked_at > self._answered_at and now - self._answered_at > self._patience_s:
            assert self._place is not None
            # Wait longer each time: there may be no browser, and some kernels read no messages while a cell runs.
            self._patience_s = min(1.5 * self._patience_s, _MOST_SILENT_S)
            self._answered_at = now
            self._place.within(self._open_again)
        self._asked_at = now
        return True

    def _open_again(self) -> None:
        """Replace the view, so that a page loaded in the meantime learns of it. The placeholders stay the same."""
        assert self._view is not None
        before, self._view = self._view, self._new_view(self._view.view_id, self._view.received)
        before.close()
        before.layout.close()

    def _note_answer(self) -> None:
        self._answered_at = time.monotonic()
        self._patience_s = _SILENT_AFTER_S

    def _further(self, progress: Progress) -> str:
        """Return a note on open jobs, or on answers of a retry missing from the caller's frame; "" for none."""
        if progress.open_jobs:
            return progress_format.further(progress)
        answered, before = progress.done + progress.cached, self._answered_before
        if before is None:
            self._answered_before = answered
        if before is None or answered <= before:
            return ""
        more = counted(answered - before, f"more {progress.unit}", "is", "answered")
        return f"{more}. Run the cell again, which is free, and its result has them too."

    def _draw(self, progress: Progress) -> None:
        self._view = self._new_view()
        if progress.state == "running":
            self._show(running_words(progress, self._model.sections(progress)["head"]["started_at"]))
        self._apart_at = time.monotonic() + (0.0 if has_no_place() else _APART_AFTER_S)

    def _new_view(self, view_id: str = "", received: dict[str, None] | None = None) -> RunView:
        return RunView(
            self._model,
            {
                "stop": lambda message: self._cancel(),
                "pause": lambda message: self._with_run("pause"),
                "go_on": lambda message: self._with_run("resume"),
                "retry": self._retry_kinds,
                "placed": lambda message: self._placed(),
                "here": lambda message: self._note_answer(),
            },
            view_id,
            received,
        )

    def _place_apart(self, view: RunView) -> None:
        assert self._place is not None
        self._apart = self._place.beside()
        shown = {VIEW: {"version_major": 2, "version_minor": 0, "model_id": view.model_id}}
        self._apart.show({"text/plain": "", **shown})

    def _placed(self) -> None:
        self._is_placed = True
        self._note_answer()
        self._remove_apart()

    def _show(self, bundle: dict[str, Any]) -> None:
        assert self._place is not None
        run = self._model.run
        if self._is_attached and run is not None:
            bundle = with_lines(bundle, live_lines(run.id, run.progress(), run.rows.source, run.origin))
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


def _in_place(html: str, view: str) -> str:
    """Return HTML inside the placeholder in which a browser mounts the view with this id."""
    return f'<div class="pllm-place" data-pllm-view="{view}">{html}</div>'


def _nothing() -> None:
    """Stop nothing: no run is open."""
