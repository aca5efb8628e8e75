"""`.llm` on the classes of a dataframe library. The code behind it is loaded on first use."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

from pllm_notebook.exceptions import interrupted
from pllm_notebook.runtime import Slot

__all__ = ["lost_accessors", "register_accessor", "register_dask", "registered_accessor"]

_KINDS: Slot[list[type[Any]]] = Slot("classes with an accessor", list, is_kept=True)
"""The classes that have, or should have, `.llm`."""


class _LazyAccessor:
    """`.llm`: ask a language model the same question of every row.

    It replaces an accessor's class in a dataframe library, and loads that class on first use.
    """

    def __init__(self, home: str) -> None:
        self._home = home

    def __call__(self, data: Any) -> Any:
        return self._loaded()(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded(), name)

    def __dir__(self) -> list[str]:
        return dir(self._loaded())

    def _loaded(self) -> Any:
        module, _, name = self._home.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except KeyboardInterrupt:
            # A traceback through imports is a page long. Python drops a module whose import did not finish, so that the
            # next use imports it again.
            raise interrupted("Stopped while pllm_notebook was loading. Nothing was sent.") from None


def register_accessor(kind: type[Any], register: Callable[[str], Callable[[Any], Any]], home: str) -> None:
    """Register `.llm` for a class, unless another package has: its users would silently lose theirs.

    Args:
        kind: The class of frames, or of columns.
        register: The library's own function that registers an accessor.
        home: Module and name of our accessor, `module:Name`.
    """
    _KINDS.value.append(kind)
    there = getattr(kind, "llm", None)
    if there is None:
        register("llm")(_LazyAccessor(home))  # the library accepts any callable; only its annotations require a class
    elif type(there).__name__ != _LazyAccessor.__name__:
        warnings.warn(
            f"{kind.__name__}.llm already belongs to {getattr(there, '__module__', 'another package')} and was not "
            f"replaced. pllm_notebook.frame(df) has the same methods: pllm_notebook.frame(df).parse(...).",
            stacklevel=3,
        )


def registered_accessor(data: Any) -> Any:
    """Return `.llm` of an object if its class got it from this package, None for anything else."""
    ours = tuple(kind for kind in _KINDS.value if type(getattr(kind, "llm", None)) is _LazyAccessor)
    return data.llm if isinstance(data, ours) else None


def register_dask() -> None:
    """Register `.llm` for Dask's frames. It is in `streams`, a layer above, because their answers become a dataset."""
    from dask.dataframe import DataFrame, Series, extensions

    home = "pllm_notebook.streams.dask_accessor"
    register_accessor(DataFrame, extensions.register_dataframe_accessor, f"{home}:DaskFrameLLM")
    register_accessor(Series, extensions.register_series_accessor, f"{home}:DaskSeriesLLM")


def lost_accessors() -> str:
    """Return a warning that names the classes whose `.llm` another package has taken; "" if there are none."""
    others = [
        kind.__name__ for kind in dict.fromkeys(_KINDS.value) if type(getattr(kind, "llm", None)) is not _LazyAccessor
    ]
    if not others:
        return ""
    return f"{' and '.join(others)}.llm: taken by another package. Use pllm_notebook.frame(df).parse(...) instead."
