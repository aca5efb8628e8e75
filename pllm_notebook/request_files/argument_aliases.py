"""Arguments that have two names."""

from __future__ import annotations

from typing import Any

from pllm_notebook.exceptions import UsageError

__all__ = ["one_of"]


def one_of(**given: Any) -> Any:
    """Return the one value that is not None.

    Args:
        **given: The names of one argument with their values.

    Raises:
        UsageError: If none or several are given. Nothing was sent.
    """
    values = [value for value in given.values() if value is not None]
    if len(values) != 1:
        names = " and ".join(f"{name}=" for name in given)
        raise UsageError(f"{names} are names of one argument: give exactly one of them. Nothing was sent.")
    return values[0]
