"""A session in a notebook: a widget while it runs, a picture that stays when it has ended.

A widget's own state is rarely saved, and without it a reader of the notebook sees an error.
"""

from __future__ import annotations

import ipywidgets

from pllm_notebook.notebook.session_html import bundle, session_html
from pllm_notebook.notebook.session_text import TextSessionDisplay
from pllm_notebook.notebook.text import VIEW
from pllm_notebook.sessions import SessionStatus

__all__ = ["WidgetSessionDisplay"]

# A program that the store answers ends before a widget would render; it only shows its picture.
_WIDGET_AFTER_S = 0.25


class WidgetSessionDisplay(TextSessionDisplay):
    """The same as a widget: a bar of calls by state, agents, cost. A saved notebook keeps the picture."""

    def __init__(self) -> None:
        super().__init__()
        self._widget: ipywidgets.HTML | None = None

    def update(self, status: SessionStatus) -> None:
        """Show the session as it is now; an equal value sends nothing to the browser."""
        if self._widget is not None:
            self._widget.value = session_html(status)
        elif self._output is not None and status.elapsed_s >= _WIDGET_AFTER_S:
            self._output.within(lambda: self._draw(status))

    def close(self, status: SessionStatus) -> None:
        """Replace the widget with a picture of the end."""
        super().close(status)
        if self._widget is not None:
            for part in (self._widget, self._widget.layout, self._widget.style):
                part.close()
            self._widget = None

    def _draw(self, status: SessionStatus) -> None:
        assert self._output is not None
        self._widget = ipywidgets.HTML(session_html(status), layout=ipywidgets.Layout(margin="0"))
        view = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        self._output.show({"text/plain": bundle(status)["text/plain"], VIEW: view})
