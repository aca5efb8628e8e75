"""Where this code runs: an IPython kernel, a terminal, a script; and which cell of which notebook.

Looks only at what a program has loaded already: IPython is never imported here.
"""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["cell_number", "current_shell", "in_kernel", "origin"]


def current_shell() -> Any:
    """Return the running IPython shell, None outside IPython."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def in_kernel() -> bool:
    """Return whether a notebook's kernel runs this, which can show widgets."""
    return getattr(current_shell(), "kernel", None) is not None


def cell_number(shell: Any) -> int:
    """Return the number in brackets beside the cell that is running.

    From IPython 9 on, `execution_count` is the next cell's already while one runs; the display hook, which
    writes `Out[n]`, knows the right one in every version.
    """
    number: int = shell.displayhook.prompt_count
    return number


def origin() -> str:
    """Name the notebook and cell, or the script, that is running; "" for unknown."""
    shell = current_shell()
    if shell is not None:
        notebook = os.path.basename(os.environ.get("JPY_SESSION_NAME", ""))
        return f"{notebook} [{cell_number(shell)}]".strip()
    return os.path.basename(sys.argv[0]) if sys.argv else ""
