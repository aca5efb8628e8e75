"""One output of the cell that started a run, and the plain line in it."""

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
# The colour is the page's own, so that it is right in the dark too.
_STYLE = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:12px;font-variant-numeric:tabular-nums"


def running_cell() -> str:
    """Return what identifies the execution of the cell that is running, "" for unknown."""
    header = getattr(current_shell(), "parent_header", None)
    return str((header or {}).get("header", {}).get("msg_id", ""))


def has_no_place() -> bool:
    """Return whether the notebook is shown by a program that mounts a widget in an output of its own alone."""
    return "VSCODE_PID" in os.environ or "google.colab" in sys.modules


class CellOutput:
    """An output of the cell that is running at construction; any thread can change it later.

    Attributes:
        cell: Identifies the execution of that cell.
    """

    def __init__(self) -> None:
        self.cell = running_cell()
        self._id = uuid.uuid4().hex
        self._shown = False
        # A kernel knows by context variables which cell a message belongs to. The engine's threads
        # have other contexts by the time a run ends.
        self._context = contextvars.copy_context()

    def show(self, bundle: dict[str, Any]) -> None:
        """Show a MIME bundle there, replacing the last one."""
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
        text: Anything; it is escaped.
        muted: Further text, in a weaker colour.
    """
    weak = f" <span style='opacity:0.65'>{escape_html(muted)}</span>" if muted else ""
    return {
        "text/plain": strip_control_chars(f"{text} {muted}").rstrip(),
        "text/html": f"<div style='{_STYLE}'>{escape_html(text)}{weak}</div>",
    }


class TextSink:
    """Progress as one line that changes about once a second. For a kernel without widgets."""

    stays = True

    def __init__(self) -> None:
        self._output: CellOutput | None = None
        self._next = 0.0

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the start; a later call, for a retry, continues in the same output."""
        self._output = self._output or CellOutput()
        self._draw(progress)

    def update(self, progress: Progress) -> None:
        """Show the run as it is now, at most once a second: every change is a message that is kept."""
        if time.monotonic() >= self._next:
            self._draw(progress)

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Show one final line."""
        if self._output is not None:
            self._output.show(line_bundle(progress_format.ended(progress)))

    def _draw(self, progress: Progress) -> None:
        self._next = time.monotonic() + _REDRAW_S
        if self._output is not None:
            self._output.show(line_bundle(progress_format.step(progress), muted="Interrupt the kernel to stop."))
