"""A session of a program in a notebook: a widget while it goes on, a picture that stays when it has ended.

A widget's own state is rarely saved, and without it a reader of the notebook sees an error.
"""

from __future__ import annotations

import ipywidgets

from pllm_notebook.notebook.session_drawing import bundle, drawn
from pllm_notebook.notebook.session_text import TextBoard
from pllm_notebook.notebook.widget import VIEW
from pllm_notebook.pipeline.dashboard import Standing

__all__ = ["WidgetBoard"]

# A program that the store answers is over before a widget would be drawn; it only ever shows its picture.
_WIDGET_AFTER_S = 0.25


class WidgetBoard(TextBoard):
    """The same as a widget: a bar of calls by state, agents and cost; what is saved is what `TextBoard` leaves."""

    def __init__(self) -> None:
        super().__init__()
        self._widget: ipywidgets.HTML | None = None

    def update(self, standing: Standing) -> None:
        """Show the session as it is now; an equal value sends nothing to the browser."""
        if self._widget is not None:
            self._widget.value = drawn(standing)
        elif self._output is not None and standing.elapsed_s >= _WIDGET_AFTER_S:
            self._output.within(lambda: self._draw(standing))

    def close(self, standing: Standing) -> None:
        """Leave the end as a picture that needs no widget."""
        super().close(standing)
        if self._widget is not None:
            for part in (self._widget, self._widget.layout, self._widget.style):
                part.close()
            self._widget = None

    def _draw(self, standing: Standing) -> None:
        assert self._output is not None
        self._widget = ipywidgets.HTML(drawn(standing), layout=ipywidgets.Layout(margin="0"))
        view = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        self._output.show({"text/plain": bundle(standing)["text/plain"], VIEW: view})
