"""A session in a notebook without widgets: a status that is updated about once a second."""

from __future__ import annotations

import time

from pllm_notebook.notebook.session_html import bundle
from pllm_notebook.notebook.text import CellOutput
from pllm_notebook.sessions import SessionStatus

__all__ = ["TextSessionDisplay"]

_REDRAW_S = 1.0


class TextSessionDisplay:
    """The status of a session, updated about once a second, for a kernel without widgets."""

    def __init__(self) -> None:
        self._output: CellOutput | None = None
        self._next = 0.0

    def open(self, status: SessionStatus) -> None:
        """Show the initial status in the running cell."""
        self._output = CellOutput()
        self._output.show(bundle(status))

    def update(self, status: SessionStatus) -> None:
        """Show the current status, at most once a second: every update is a stored message."""
        if self._output is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + _REDRAW_S
            self._output.show(bundle(status))

    def write(self, text: str) -> None:
        """Print the program's output in the cell."""
        print(text)

    def close(self, status: SessionStatus) -> None:
        """Show the final status."""
        if self._output is not None:
            self._output.show(bundle(status))
