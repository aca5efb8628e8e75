"""The dataframe libraries that this package has an adapter for; each registers itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.lazy_accessor import registered_accessor
from pllm_notebook.runtime import Slot

if TYPE_CHECKING:  # it needs Pydantic, which is loaded with the first use
    from pllm_notebook.frames.table import FrameLibrary, Table

__all__ = ["accessor_of", "default_library", "find_accessor", "register_library", "table_of", "table_to_join"]

_LOADERS: Slot[dict[str, Callable[[], FrameLibrary]]] = Slot("frame libraries", dict, is_kept=True)
_METHODS: Slot[dict[str, str]] = Slot("methods of frame libraries", dict, is_kept=True)

_DEFAULTS = ("pandas", "polars")
"""Libraries that reports are frames of where no frame was given: the first of these that the process has loaded."""


def register_library(module: str, load: Callable[[], FrameLibrary], *, method: str | None = None) -> None:
    """Register an adapter.

    Args:
        module: Name of the library's module. Where a process has not loaded it, no object can be one of its frames.
        load: Returns the adapter; called when a frame of it may be there, so it may import what it needs.
        method: Name of a method by which the objects of other libraries can be read as its frames.
    """
    _LOADERS.value[module] = load
    if method is not None:
        _METHODS.value[module] = method


def default_library() -> FrameLibrary:
    """Return the library whose frames the package makes where no frame was given: Polars where no pandas is loaded."""
    loaded = (name for name in _DEFAULTS if name in sys.modules)
    return _LOADERS.value[next(loaded, _DEFAULTS[0])]()


def table_of(data: Any) -> Table | None:
    """Return a table of a frame or a column, None for anything else."""
    for load in _loaders_for(data):
        table = load().table(data)
        if table is not None:
            return table
    return None


def table_to_join(df: Any) -> Table:
    """Return a table of what a run's `to_frame` was given.

    Raises:
        UsageError: If it is no frame or column.
    """
    table = table_of(df)
    if table is None:
        raise UsageError(f"to_frame takes a DataFrame or a Series, not {type(df).__name__}.")
    return table


def find_accessor(data: Any) -> Any:
    """Return what `df.llm` is of a frame or a column, None for anything else."""
    for load in _loaders_for(data):
        found = load().accessor(data)
        if found is not None:
            return found
    return registered_accessor(data)  # Dask's frames have no rows, hence no table


def accessor_of(data: Any, asked: str = "pllm.frame") -> Any:
    """Return what `df.llm` is of a frame or a column (see `pllm.frame`).

    Args:
        data: The caller's object.
        asked: The function that was called, for the message.

    Raises:
        UsageError: For anything else. Nothing was sent.
    """
    found = find_accessor(data)
    if found is None:
        made = "pd.Series(texts) or pd.DataFrame(rows)" if isinstance(data, list) else "pd.DataFrame(columns)"
        advice = f" Make one of it: {made}." if isinstance(data, list | dict) else ""
        raise UsageError(f"{asked} takes a DataFrame or a Series, not {type(data).__name__}.{advice} Nothing was sent.")
    return found


def _loaders_for(data: Any) -> list[Callable[[], FrameLibrary]]:
    """Return loaders of the adapters that *data* may be of: those of loaded libraries, then those that can read it."""
    kinds, methods = list(_LOADERS.value.items()), _METHODS.value
    own = [load for module, load in kinds if module in sys.modules and module not in methods]
    reading = [
        load
        for module, load in kinds
        if module in methods and (module in sys.modules or hasattr(type(data), methods[module]))
    ]
    return own + reading
