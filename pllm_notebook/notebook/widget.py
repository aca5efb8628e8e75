"""Progress in a notebook: a widget while the run is active, one line when it has ended.

What stays in the saved notebook is the line. A widget's own state is rarely saved, and without it
a reader of the notebook sees an error, or the repr of the moment when the run began.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets

from pllm_notebook.notebook import progress_format, progress_html
from pllm_notebook.notebook.text import CellOutput, line_bundle
from pllm_notebook.types import Progress

__all__ = ["VIEW", "WidgetSink", "button"]

# A run that the cache answers ends before a widget would render; it only shows its line.
_WIDGET_AFTER_S = 0.25

VIEW = "application/vnd.jupyter.widget-view+json"


class WidgetSink:
    """A bar, counts and a Stop button in the cell that started the run; a line and Retry at its end."""

    stays = True

    def __init__(self) -> None:
        self._output: CellOutput | None = None
        self._retry_output: CellOutput | None = None
        self._panel: _Panel | None = None
        self._cancel: Callable[[], None] = _nothing

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the start, in the cell that is running now; a later call continues in the same output."""
        self._cancel = cancel
        self._output = self._output or CellOutput()
        self._output.show(line_bundle(progress_format.step(progress)))

    def update(self, progress: Progress) -> None:
        """Show the run as it is now; only what changed is sent to the browser."""
        if self._panel is not None:
            self._panel.update(progress)
        elif self._output is not None and progress.elapsed_s >= _WIDGET_AFTER_S:
            self._output.within(lambda: self._draw(progress))

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Show one line, and a button if some rows can be retried."""
        if self._output is None:
            return
        self._output.show(line_bundle(progress_format.ended(progress)))
        if self._panel is not None:
            self._panel.close()
            self._panel = None
        # After a stop, `retry` would send every remaining row, which is not what this button says.
        if retry is not None and progress.failed and not progress.pending:
            self._offer(self._output, retry)

    def _draw(self, progress: Progress) -> None:
        assert self._output is not None
        self._panel = _Panel(progress, self._cancel)
        self._output.show(_bundle(self._panel.box, progress_format.step(progress)))

    def _offer(self, line: CellOutput, retry: Callable[[], object]) -> None:
        """Show the Retry button below the line; a reader of the saved notebook sees the text instead."""
        words = "Run the cell again to try the failed rows again; the rest comes from the cache."
        self._retry_output = place = self._retry_output or line.beside()

        def offer() -> None:
            again = button("Retry failed", "repeat", words, width="120px")

            def clicked(_: object) -> None:
                place.show(line_bundle(""))
                _close(again)
                retry()

            again.on_click(clicked)
            place.show(_bundle(again, words))

        line.within(offer)


class _Panel:
    """The widgets of one running display."""

    def __init__(self, progress: Progress, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._bar, self._counts, self._details = (
            ipywidgets.HTML(text, layout=ipywidgets.Layout(margin="0")) for text in _drawn(progress)
        )
        self._stop = button(
            "Stop",
            "stop",
            "Stop and keep every finished row. Interrupting the kernel does so too, and works everywhere.",
            width="88px",
        )
        self._stop.on_click(self._clicked)
        row = ipywidgets.Layout(align_items="center", overflow="hidden")
        self._hint = ipywidgets.HTML(progress_html.HINT, layout=ipywidgets.Layout(margin="0"))
        self._first = ipywidgets.HBox([self._bar, self._counts, self._stop, self._hint], layout=row)
        self.box = ipywidgets.VBox([self._first, self._details], layout=ipywidgets.Layout(overflow="hidden"))

    def update(self, progress: Progress) -> None:
        """Assign what changed; an equal value sends nothing."""
        self._bar.value, self._counts.value, self._details.value = _drawn(progress)

    def close(self) -> None:
        """Close every widget, here and in the browser."""
        _close(self.box, self._first, self._bar, self._counts, self._details, self._stop, self._hint)

    def _clicked(self, _: object) -> None:
        # On whatever thread the kernel gives the click to: only say so, never wait.
        self._stop.disabled = True
        self._stop.description = "Stopping"
        self._cancel()


def _drawn(progress: Progress) -> tuple[str, str, str]:
    return progress_html.bar(progress), progress_html.counts(progress), progress_html.details(progress)


def button(description: str, icon: str, tooltip: str, *, width: str) -> ipywidgets.Button:
    """Return a button whose clicks are handled where the browser sends them.

    ipykernel 7.4 hands a widget's messages to the thread that last spoke for that widget, which is the
    busy cell's own; a click would wait until the cell has ended. The name is private, and absent
    (and not needed) in other versions.
    """
    layout = ipywidgets.Layout(width=width, height="26px", margin="0 0 0 12px" if description == "Stop" else "0")
    made = ipywidgets.Button(description=description, icon=icon, tooltip=tooltip, layout=layout)
    comm = made.comm
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default
    return made


def _close(*widgets: ipywidgets.Widget) -> None:
    """Close widgets with the models that only they use; ipywidgets never closes those."""
    for widget in widgets:
        for part in (widget, widget.layout, getattr(widget, "style", None)):
            if part is not None:
                part.close()


def _bundle(widget: ipywidgets.Widget, text: str) -> dict[str, Any]:
    """Return a MIME bundle of a widget, with *text* where there are no widgets."""
    return {"text/plain": text, VIEW: {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}}


def _nothing() -> None:
    """Stop nothing: no run is open."""
