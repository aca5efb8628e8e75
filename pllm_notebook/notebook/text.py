"""An output of the cell that started a run, and progress as a plain line in it."""

from __future__ import annotations

import contextvars
import os
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from pllm_notebook.formatting import escape_html, strip_control_chars
from pllm_notebook.notebook import progress_format
from pllm_notebook.shell import current_shell
from pllm_notebook.types import Progress

__all__ = ["VIEW", "CellOutput", "TextSink", "has_no_place", "line_bundle", "running_cell"]

VIEW = "application/vnd.jupyter.widget-view+json"
"""MIME type of a widget in an output."""


_REDRAW_S = 1.0
# The colour is the page's own, so that it also fits a dark theme.
_STYLE = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:12px;font-variant-numeric:tabular-nums"


def running_cell() -> str:
    """Return an id of the current cell execution, "" if unknown."""
    header = getattr(current_shell(), "parent_header", None)
    return str((header or {}).get("header", {}).get("msg_id", ""))


def has_no_place() -> bool:
    """Return whether the notebook's front end mounts a widget only in a separate output."""
    return "VSCODE_PID" in os.environ or "google.colab" in sys.modules


class CellOutput:
    """An output of the cell that is running at construction. Any thread can change it later.

    Attributes:
        cell: Id of the execution of that cell.
    """

    def __init__(self) -> None:
        self.cell = running_cell()
        self._id = uuid.uuid4().hex
        self._shown = False
        # A kernel uses context variables to find the cell of a message. The engine's threads have other
        # contexts by the time a run ends.
        self._context = contextvars.copy_context()

    def show(self, bundle: dict[str, Any]) -> None:
        """Show a MIME bundle in the output, replacing the last one."""
        from IPython.display import display

        def publish() -> None:
            # IPython's functions are not annotated.
            display(bundle, raw=True, display_id=self._id, update=self._shown)  # type: ignore[no-untyped-call]
            self._shown = True

        self.within(publish)

    def beside(self) -> CellOutput:
        """Return another output of the same cell."""
        other = CellOutput()
        other._context = self._context
        return other

    def within(self, function: Callable[[], object]) -> None:
        """Run *function* in the context of that cell."""
        self._context.copy().run(function)


def line_bundle(text: str, *, muted: str = "") -> dict[str, Any]:
    """Return one line for a saved notebook, as HTML and plain text.

    Args:
        text: Any text; it is escaped.
        muted: Additional text, in a weaker colour.
    """
    weak = f" <span style='opacity:0.65'>{escape_html(muted)}</span>" if muted else ""
    return {
        "text/plain": strip_control_chars(f"{text} {muted}").rstrip(),
        "text/html": f"<div style='{_STYLE}'>{escape_html(text)}{weak}</div>",
    }


class TextSink:
    """Progress as one line, updated about once a second, for a kernel without widgets."""

    stays = True

    def __init__(self) -> None:
        self._output: CellOutput | None = None
        self._next = 0.0

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the start. A later call, for a retry, continues in the same output."""
        self._output = self._output or CellOutput()
        self._draw(progress)

    def update(self, progress: Progress) -> None:
        """Show the current state, at most once a second: every update is a stored message."""
        if time.monotonic() >= self._next:
            self._draw(progress)

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Show the final line."""
        if self._output is not None:
            self._output.show(line_bundle(progress_format.ended(progress)))

    def _draw(self, progress: Progress) -> None:
        self._next = time.monotonic() + _REDRAW_S
        if self._output is not None:
            self._output.show(line_bundle(progress_format.step(progress), muted="Interrupt the kernel to stop."))
