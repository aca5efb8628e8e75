"""Arguments that have two names."""

from __future__ import annotations

from typing import Any

from pllm_notebook.exceptions import UsageError

__all__ = ["one_of"]


def one_of(**given: Any) -> Any:
    """Return the value of the one argument that was given.

    Args:
        **given: The names of one argument and what was given by each, None for nothing.

    Raises:
        UsageError: Where there is none, or more than one. Nothing was sent.
    """
    said = [value for value in given.values() if value is not None]
    if len(said) != 1:
        names = " and ".join(f"{name}=" for name in given)
        raise UsageError(f"{names} are names of one argument: give exactly one of them. Nothing was sent.")
    return said[0]
