"""Progress in a notebook: a widget while the run goes on, one line when it has ended.

What stays in the saved notebook is the line. A widget's own state is rarely saved, and without it
a reader of the notebook sees an error, or the repr of the moment when the run began.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import ipywidgets

from pllm_notebook.notebook import drawing, wording
from pllm_notebook.notebook.text import Output, line_bundle
from pllm_notebook.records import Progress

__all__ = ["WidgetSink"]

logger = logging.getLogger("pllm_notebook")

# A run that the cache answers is over before a widget would be drawn; it only ever shows its line.
_WIDGET_AFTER_S = 0.25

_VIEW = "application/vnd.jupyter.widget-view+json"


class WidgetSink:
    """A bar, counts and a Stop button in the cell that started the run; a line and Retry at its end."""

    def __init__(self) -> None:
        self._output: Output | None = None
        self._retry_output: Output | None = None
        self._panel: _Panel | None = None
        self._cancel: Callable[[], None] = _nothing
        # A click on Retry comes from another thread than the engine's.
        self._lock = threading.RLock()

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the start, in the cell that is running now; a later call goes on in the same place."""
        with self._lock:
            self._cancel = cancel
            self._output = self._output or Output()
            self._output.show(line_bundle(wording.step(progress)))

    def update(self, progress: Progress) -> None:
        """Show the run as it is now; only what changed is sent to the browser."""
        with self._lock:
            if self._output is None:
                return
            if self._panel is None:
                if progress.elapsed_s < _WIDGET_AFTER_S:
                    return
                self._output.within(lambda: self._draw(progress))
            else:
                self._panel.update(progress)

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Leave one line, and a button where some rows can be tried again."""
        with self._lock:
            if self._output is None:
                return
            self._output.show(line_bundle(wording.ended(progress)))
            if self._panel is not None:
                self._panel.close()
                self._panel = None
            if retry is not None and progress.failed:
                self._offer(progress, retry)

    def _draw(self, progress: Progress) -> None:
        assert self._output is not None
        self._panel = _Panel(progress, self._cancel)
        self._output.show(_bundle(self._panel.box, wording.step(progress)))

    def _offer(self, progress: Progress, retry: Callable[[], object]) -> None:
        """Show the Retry button below the line; without a kernel a reader sees the words instead."""
        assert self._output is not None
        words = f"Run the cell again to try the {progress.failed:,} failed rows again; the rest costs nothing."
        self._retry_output = output = self._retry_output or self._output.beside()
        button = ipywidgets.Button(
            description=f"Retry {progress.failed:,} failed",
            icon="repeat",
            tooltip=words,
            layout=ipywidgets.Layout(width="auto", height="26px"),
        )

        def click(_: object) -> None:
            with self._lock:
                button.disabled = True
                output.show(line_bundle(""))
                button.close()
            retry()

        output.within(lambda: _answer_at_once(button))
        button.on_click(click)
        output.show(_bundle(button, words))


class _Panel:
    """The widgets of one running display."""

    def __init__(self, progress: Progress, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._bar = ipywidgets.HTML(drawing.bar(progress), layout=ipywidgets.Layout(margin="0"))
        self._counts = ipywidgets.HTML(drawing.counts(progress), layout=ipywidgets.Layout(margin="0"))
        self._details = ipywidgets.HTML(drawing.details(progress), layout=ipywidgets.Layout(margin="0"))
        self._stop = ipywidgets.Button(
            description="Stop",
            icon="stop",
            tooltip="Stop and keep every finished row. Interrupting the kernel does so too, and works everywhere.",
            layout=ipywidgets.Layout(width="88px", height="26px", margin="0 0 0 12px"),
        )
        self._stop.on_click(self._clicked)
        _answer_at_once(self._stop)
        row = ipywidgets.Layout(align_items="center", overflow="hidden")
        first = ipywidgets.HBox([self._bar, self._counts, self._stop], layout=row)
        self.box = ipywidgets.VBox([first, self._details], layout=ipywidgets.Layout(overflow="hidden"))

    def update(self, progress: Progress) -> None:
        """Assign what changed; an equal value sends nothing."""
        self._bar.value = drawing.bar(progress)
        self._counts.value = drawing.counts(progress)
        self._details.value = drawing.details(progress)

    def close(self) -> None:
        """Let go of every widget, here and in the browser."""
        for widget in (self._stop, self._bar, self._counts, self._details, *self.box.children, self.box):
            widget.close()

    def _clicked(self, _: object) -> None:
        # On whatever thread the kernel gives the click to: only say so, never wait.
        self._cancel()
        self._stop.disabled = True
        self._stop.description = "Stopping"


def _answer_at_once(button: ipywidgets.Button) -> None:
    """Have clicks handled where the browser sends them.

    ipykernel 7.4 hands a widget's messages to the thread that last spoke for that widget, which is the
    busy cell's own; a click would wait until the cell has ended. The name is private, and absent
    (and not needed) in other versions.
    """
    comm = button.comm
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default


def _bundle(widget: ipywidgets.Widget, words: str) -> dict[str, Any]:
    """Show a widget, with *words* where there are no widgets."""
    return {"text/plain": words, _VIEW: {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}}


def _nothing() -> None:
    """Stop nothing: no run is open."""
