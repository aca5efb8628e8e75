"""A session in a notebook: its status as plain HTML, updated in place by a live kernel."""

from __future__ import annotations

import time
from typing import Any

import traitlets

from pllm_notebook.notebook.placed_widget import PlacedWidget, module
from pllm_notebook.notebook.session_html import bundle, session_html
from pllm_notebook.notebook.session_text import TextSessionDisplay
from pllm_notebook.notebook.text import CellOutput
from pllm_notebook.sessions import SessionStatus

__all__ = ["PlacedSessionDisplay"]

# A program answered from the store ends before a browser learns of the widget, and shows only its status.
_WIDGET_AFTER_S = 0.25
# Maximum age of the status in a notebook that is saved during the session. Each update is stored in the notebook and
# marks it as unsaved.
_PUBLISH_EVERY_S = 20.0
# A page reloaded while a cell blocks knows only the widgets opened afterwards.
_OPEN_AGAIN_S = 30.0


class SessionPanel(PlacedWidget):
    """The status of one session.

    Attributes:
        ended: Whether the session has ended, or another panel shows it. If the kernel dies before that, the page says
            that the program ended with it.
    """

    kind = "session"
    _esm = module("session.js")

    ended = traitlets.Bool(False).tag(sync=True)

    def take(self, message: dict[str, Any]) -> None:
        """Do nothing: the panel has no buttons."""

    def opened_again(self) -> SessionPanel:
        """Return a new panel that replaces this one."""
        new = SessionPanel(self._place, self.html, self.view_id)
        self.ended = True
        new.replace(self)
        return new


class PlacedSessionDisplay(TextSessionDisplay):
    """A status updated ten times a second: a bar of the calls by state, agents, cost. A saved notebook keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self._panel: SessionPanel | None = None
        self._publish_at = self._open_at = 0.0

    def update(self, status: SessionStatus) -> None:
        """Show the current status. Nothing is sent to the browser if it is unchanged."""
        if self._output is None or status.elapsed_s < _WIDGET_AFTER_S:
            return
        place, now = self._output, time.monotonic()
        place.within(lambda: self._draw(place, status, now))

    def close(self, status: SessionStatus) -> None:
        """Show the final status. A reloaded page shows it too while the panel is among the newest."""
        if self._panel is None:
            super().close(status)
        else:
            self._panel.ended = True
            self._panel.html = session_html(status)
            self._panel.publish(bundle(status)["text/plain"])

    def _draw(self, place: CellOutput, status: SessionStatus, now: float) -> None:
        text = bundle(status)["text/plain"]
        if self._panel is None:
            self._panel = SessionPanel(place, session_html(status))
            self._panel.start(text)
            self._publish_at, self._open_at = now + _PUBLISH_EVERY_S, now + _OPEN_AGAIN_S
            return
        self._panel.html = session_html(status)
        if now >= self._publish_at:
            self._panel.publish(text)
            self._publish_at = now + _PUBLISH_EVERY_S
        if now >= self._open_at:
            self._panel = self._panel.opened_again()
            self._open_at = now + _OPEN_AGAIN_S
