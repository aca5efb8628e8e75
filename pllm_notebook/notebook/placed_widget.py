"""Panels in a notebook: plain HTML in an output, with controls added by a live kernel.

Outputs do not contain a widget: a notebook opened without a kernel, exported or shown on a web site has the HTML.
"""

from __future__ import annotations

import secrets
from collections import defaultdict, deque
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

from pllm_notebook.notebook.text import VIEW, CellOutput, has_no_place
from pllm_notebook.notebook.view_widget import receive_while_busy
from pllm_notebook.runtime import Slot

__all__ = ["PlacedWidget", "module", "styles"]

_HERE = Path(__file__).parent
# Maximum number of live panels of each kind.
_MOST_OPEN = 8
_open: Slot[defaultdict[str, deque[PlacedWidget]]] = Slot("panels by kind", lambda: defaultdict(deque))


def module(name: str) -> str:
    """Return the source of a panel's browser module, after the code that finds its place in the page."""
    return _joined("placed.js", name)


def styles(*names: str) -> str:
    """Return the source of a panel's style sheet: the common styles, then its own."""
    return _joined("placed.css", *names)


def _joined(*names: str) -> str:
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


class PlacedWidget(anywidget.AnyWidget):
    """The live part of one panel.

    Args:
        place: The panel's output.
        html: Escaped HTML of the output.
        view_id: Id of the earlier panel to replace, "" for a new panel.
        state: Values of the subclass's traits.
    """

    kind: ClassVar[str]
    _css = styles()

    view_id = traitlets.Unicode().tag(sync=True)
    html = traitlets.Unicode().tag(sync=True)

    def __init__(self, place: CellOutput, html: str, view_id: str = "", **state: Any) -> None:
        self._place = place
        super().__init__(view_id=view_id or secrets.token_hex(8), html=html, **state)
        self.on_msg(self._on_message)
        receive_while_busy(self)

    def take(self, message: dict[str, Any]) -> None:
        """Handle a message from a browser."""
        raise NotImplementedError

    def publish(self, text: str) -> None:
        """Show the HTML in the output, with *text* for front ends without HTML. A later call replaces both."""
        html = f'<div data-pllm-{self.kind}="{self.view_id}"><div class="pllm-saved">{self.html}</div></div>'
        self._place.show({"text/plain": text, "text/html": html})

    def start(self, text: str) -> None:
        """Show the panel for the first time, and end the oldest of its kind if there are too many."""
        self.publish(text)
        if has_no_place():
            view = {VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.model_id}}
            self._place.beside().show({"text/plain": "", **view})
        others = _open.value[self.kind]
        others.append(self)
        while len(others) > _MOST_OPEN:
            others.popleft().end()

    def replace(self, old: PlacedWidget) -> None:
        """Replace *old*, which ends. A page loaded after *old* was opened knows only this panel."""
        others = _open.value[self.kind]
        if old in others:
            others[others.index(old)] = self
        old.end()

    def end(self) -> None:
        """End the live part. The HTML is kept."""
        self.close()
        self.layout.close()

    def _on_message(self, _: object, message: Any, buffers: object) -> None:
        if isinstance(message, dict):
            self.take(message)
