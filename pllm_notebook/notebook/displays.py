"""Which display a run gets: a widget in a notebook, lines on stderr elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from pllm_notebook.protocols import Sink

__all__ = ["for_here"]


def for_here() -> Sink | None:
    """Make the display for a run that starts here and now.

    A kernel gets the widget (plain text where ipywidgets cannot be imported), anything else a bar on
    stderr. Loads a display library only now, and never IPython into a program that has not loaded it.
    """
    shell = _shell()
    if shell is not None and getattr(shell, "kernel", None) is not None:
        from pllm_notebook.notebook.text import TextSink

        try:
            from pllm_notebook.notebook.widget import WidgetSink
        except ImportError:
            return TextSink()
        return WidgetSink()
    from pllm_notebook.notebook.terminal import TerminalSink

    return TerminalSink()


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
