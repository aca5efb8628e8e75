"""The packages of the extra `evaluate`: scikit-learn, scipy and matplotlib, imported on first use."""

from __future__ import annotations

import importlib
from typing import Any

from pllm_notebook.exceptions import MissingPackageError

__all__ = ["new_axes", "scikit_learn"]


def scikit_learn(module: str, used_by: str) -> Any:
    """Import a module of scikit-learn, or of its dependency scipy.

    Args:
        module: Its full name.
        used_by: The feature that needs it, for the error.

    Raises:
        MissingPackageError: If scikit-learn is not installed. Nothing was sent.
    """
    try:
        importlib.import_module(module.partition(".")[0])
        return importlib.import_module(module)
    except ImportError:
        raise MissingPackageError(used_by, "scikit-learn", "evaluate") from None


def new_axes(used_by: str, size: tuple[float, float] | None = None) -> Any:
    """Return the axes of a new figure.

    Args:
        used_by: The feature that needs them, for the error.
        size: Width and height in inches. None for matplotlib's default.

    Raises:
        MissingPackageError: If matplotlib is not installed. Nothing was sent.
    """
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise MissingPackageError(used_by, "matplotlib", "evaluate") from None
    return pyplot.subplots(figsize=size)[1]
