"""The directory whose jobs and failures are meant: that of a session, or any path."""

from __future__ import annotations

import os
from typing import Any

from pllm_notebook.exceptions import UsageError

__all__ = ["directory_of"]


def directory_of(of: Any) -> str | None:
    """Return the directory of a session, or of a path; None for anything else.

    Raises:
        UsageError: If the path is not a directory: a look-up must not create one.
    """
    if isinstance(of, (str, os.PathLike)):
        path = os.path.abspath(os.path.expanduser(os.fspath(of)))
        if not os.path.isdir(path):
            raise UsageError(f"There is no directory {path}.")
        return path
    from pllm_notebook.sessions import Session

    return of.directory if isinstance(of, Session) else None
