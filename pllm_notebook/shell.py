"""Where this code runs: in an IPython kernel, a terminal or a script, and in which cell of which notebook.

IPython is never imported here, only used if the program has already loaded it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["cell_number", "current_shell", "in_kernel", "origin"]


def current_shell() -> Any:
    """Return the running IPython shell, or None outside IPython."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def in_kernel() -> bool:
    """Return whether this code runs in a notebook's kernel, which can show widgets."""
    return getattr(current_shell(), "kernel", None) is not None


def cell_number(shell: Any) -> int:
    """Return the number in brackets beside the running cell.

    In IPython 9 and later, `execution_count` is already that of the next cell while a cell runs. The display hook,
    which writes `Out[n]`, has the right number in every version.
    """
    number: int = shell.displayhook.prompt_count
    return number


def origin() -> str:
    """Return the name of the running notebook with its cell number, or of the running script; "" if unknown."""
    shell = current_shell()
    if shell is not None:
        notebook = os.path.basename(os.environ.get("JPY_SESSION_NAME", ""))
        return f"{notebook} [{cell_number(shell)}]".strip()
    return os.path.basename(sys.argv[0]) if sys.argv else ""
