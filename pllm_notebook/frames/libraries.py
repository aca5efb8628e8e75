"""The dataframe libraries with an adapter in this package. Each adapter registers itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.lazy_accessor import registered_accessor
from pllm_notebook.runtime import Slot

if TYPE_CHECKING:  # the module needs Pydantic, which is loaded on first use
    from pllm_notebook.frames.table import FrameLibrary, Table

__all__ = ["accessor_of", "default_library", "find_accessor", "register_library", "table_of", "table_to_join"]

_LOADERS: Slot[dict[str, Callable[[], FrameLibrary]]] = Slot("frame libraries", dict, is_kept=True)
_METHODS: Slot[dict[str, str]] = Slot("methods of frame libraries", dict, is_kept=True)

_DEFAULTS = ("pandas", "polars")
"""Libraries for reports without a frame, in order of preference: the first one that the process has loaded is used."""


def register_library(module: str, load: Callable[[], FrameLibrary], *, method: str | None = None) -> None:
    """Register an adapter.

    Args:
        module: Name of the library's module. If a process has not loaded it, no object can be one of its frames.
        load: Returns the adapter. Called only when a frame of the library may exist, so it may import the library.
        method: Name of a method through which objects of other libraries can be read as its frames.
    """
    _LOADERS.value[module] = load
    if method is not None:
        _METHODS.value[module] = method


def default_library() -> FrameLibrary:
    """Return the library for results without an input frame: pandas, or Polars if only Polars is loaded."""
    loaded = (name for name in _DEFAULTS if name in sys.modules)
    return _LOADERS.value[next(loaded, _DEFAULTS[0])]()


def table_of(data: Any) -> Table | None:
    """Return the table of a frame or a column, None for anything else."""
    for load in _loaders_for(data):
        table = load().table(data)
        if table is not None:
            return table
    return None


def table_to_join(df: Any) -> Table:
    """Return the table of the argument of a run's `to_frame`.

    Raises:
        UsageError: If it is not a frame or a column.
    """
    table = table_of(df)
    if table is None:
        raise UsageError(f"to_frame takes a DataFrame or a Series, not {type(df).__name__}.")
    return table


def find_accessor(data: Any) -> Any:
    """Return `.llm` of a frame or a column, None for anything else."""
    for load in _loaders_for(data):
        found = load().accessor(data)
        if found is not None:
            return found
    return registered_accessor(data)  # Dask's frames have no rows and therefore no table


def accessor_of(data: Any, asked: str = "pllm.frame") -> Any:
    """Return `.llm` of a frame or a column (see `pllm.frame`).

    Args:
        data: The caller's object.
        asked: Name of the called function, for the message.

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
    """Return the loaders of possible adapters for *data*: of loaded libraries, then of libraries that can read it."""
    kinds, methods = list(_LOADERS.value.items()), _METHODS.value
    own = [load for module, load in kinds if module in sys.modules and module not in methods]
    reading = [
        load
        for module, load in kinds
        if module in methods and (module in sys.modules or hasattr(type(data), methods[module]))
    ]
    return own + reading
