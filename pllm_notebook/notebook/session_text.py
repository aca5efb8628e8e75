"""A session in a notebook without widgets: a picture that changes about once a second."""

from __future__ import annotations

import time

from pllm_notebook.notebook.session_html import bundle
from pllm_notebook.notebook.text import CellOutput
from pllm_notebook.sessions import SessionStatus

__all__ = ["TextSessionDisplay"]

_REDRAW_S = 1.0


class TextSessionDisplay:
    """The lines of a session, about once a second. For a kernel without widgets."""

    def __init__(self) -> None:
        self._output: CellOutput | None = None
        self._next = 0.0

    def open(self, status: SessionStatus) -> None:
        """Show the start, in the cell that is running now."""
        self._output = CellOutput()
        self._output.show(bundle(status))

    def update(self, status: SessionStatus) -> None:
        """Show the session as it is now, at most once a second: every change is a message that is kept."""
        if self._output is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + _REDRAW_S
            self._output.show(bundle(status))

    def write(self, text: str) -> None:
        """Print the program's output in the cell."""
        print(text)

    def close(self, status: SessionStatus) -> None:
        """Show the final lines."""
        if self._output is not None:
            self._output.show(bundle(status))
