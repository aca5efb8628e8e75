"""Choice of the display of a run or session: a widget in a notebook, lines on stderr elsewhere."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pllm_notebook.protocols import Display
from pllm_notebook.shell import in_kernel

if TYPE_CHECKING:
    from pllm_notebook.sessions import SessionDisplay

__all__ = ["choose_display", "choose_session_display", "show_in_kernel"]

# Live panels by kind: the module, whose import needs the widget library, and its function.
_PANELS = {
    "run": ("view_sink", "show_run"),
    "runs": ("runs_table", "show_table"),
    "jobs": ("job_panel", "show_jobs"),
    "review": ("review_widget", "show_review"),
}


def choose_display() -> Display | None:
    """Return the display for a run that starts now.

    A kernel gets the view (plain text if its widget library cannot be imported), marimo its own display, and anything
    else a bar on stderr. A display library is loaded only here, and IPython is never loaded by this function.
    """
    if in_kernel():
        from pllm_notebook.notebook.text import TextSink

        try:
            from pllm_notebook.notebook.view_sink import ViewSink
        except ImportError:
            return TextSink()
        return ViewSink()
    from pllm_notebook.notebook.marimo_sink import MarimoSink, in_marimo

    if in_marimo():
        return MarimoSink()
    from pllm_notebook.notebook.terminal import TerminalSink

    return TerminalSink()


def choose_session_display() -> SessionDisplay | None:
    """Return the display for a session that starts now, like `choose_display` for a run."""
    if not in_kernel():
        from pllm_notebook.notebook.session_terminal import TerminalSessionDisplay

        return TerminalSessionDisplay()
    from pllm_notebook.notebook.session_text import TextSessionDisplay
    from pllm_notebook.notebook.text import has_no_place

    if has_no_place():  # a separate widget would only duplicate the output
        return TextSessionDisplay()
    try:
        from pllm_notebook.notebook.session_panel import PlacedSessionDisplay
    except ImportError:
        return TextSessionDisplay()
    return PlacedSessionDisplay()


def show_in_kernel(kind: str, value: Any) -> bool:
    """Show a value of a kind in the running cell. Return False outside a kernel or without its widget library."""
    if not in_kernel():
        return False
    where, name = _PANELS[kind]
    try:
        found = importlib.import_module(f"pllm_notebook.notebook.{where}")
    except ImportError:
        return False
    getattr(found, name)(value)
    return True
