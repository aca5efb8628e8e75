"""The dataframe libraries that this package has an adapter for; each registers itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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
    tables = (library.table(data) for library in _libraries_for(data))
    return next((table for table in tables if table is not None), None)


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
    accessors = (library.accessor(data) for library in _libraries_for(data))
    found = next((accessor for accessor in accessors if accessor is not None), None)
    return registered_accessor(data) if found is None else found  # Dask's frames have no rows, hence no table


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
        raise UsageError(f"{asked} takes a DataFrame or a Series, not {type(data).__name__}. Nothing was sent.")
    return found


def _libraries_for(data: Any) -> Iterator[FrameLibrary]:
    """Yield the libraries that *data* may be of: those that are loaded, then those that can read it."""
    kinds = list(_LOADERS.value.items())
    readers = {module for module, method in _METHODS.value.items() if hasattr(type(data), method)}
    for module, load in kinds:
        if module in sys.modules and module not in _METHODS.value:
            yield load()
    for module, load in kinds:
        if module in _METHODS.value and (module in readers or module in sys.modules):
            yield load()
