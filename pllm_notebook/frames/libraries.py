"""The dataframe libraries that this package has an adapter for; each registers itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.runtime import Slot

if TYPE_CHECKING:  # it needs Pydantic, which is loaded with the first use
    from pllm_notebook.frames.table import FrameLibrary, Table

__all__ = ["accessor_of", "default_library", "register_library", "table_of"]

_LOADERS: Slot[dict[str, Callable[[], FrameLibrary]]] = Slot("frame libraries", dict, is_kept=True)


def register_library(module: str, load: Callable[[], FrameLibrary]) -> None:
    """Register an adapter.

    Args:
        module: Name of the library's module. Where a process has not loaded it, no object can be one of its frames.
        load: Returns the adapter; called when a frame of it may be there, so it may import what it needs.
    """
    _LOADERS.value[module] = load


def default_library() -> FrameLibrary:
    """Return the library whose frames the package makes where no frame was given: the first registered."""
    return next(iter(_LOADERS.value.values()))()


def table_of(data: Any) -> Table | None:
    """Return a table of a frame or a column, None for anything else."""
    tables = (library.table(data) for library in _present())
    return next((table for table in tables if table is not None), None)


def accessor_of(data: Any) -> Any:
    """Return what `df.llm` is of a frame or a column (see `pllm.frame`).

    Raises:
        UsageError: For anything else. Nothing was sent.
    """
    accessors = (library.accessor(data) for library in _present())
    found = next((accessor for accessor in accessors if accessor is not None), None)
    if found is None:
        raise UsageError(f"pllm.frame takes a DataFrame or a Series, not {type(data).__name__}. Nothing was sent.")
    return found


def _present() -> list[FrameLibrary]:
    return [load() for module, load in list(_LOADERS.value.items()) if module in sys.modules]
