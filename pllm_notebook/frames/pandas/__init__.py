"""The adapter for pandas. Importing it registers `df.llm`, `series.llm` and the library itself."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pandas as pd

from pllm_notebook.frames.libraries import register_library

__all__ = ["lost_accessors"]


class _LazyAccessor:
    """`.llm`: ask a language model the same question of every row.

    Takes the place of an accessor's class in pandas, and loads that class when it is first used.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, data: Any) -> Any:
        return self._loaded()(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded(), name)

    def __dir__(self) -> list[str]:
        return dir(self._loaded())

    def _loaded(self) -> Any:
        return getattr(importlib.import_module(f"{__name__}.accessor"), self._name)


def _register(kind: type[Any], register: Any, name: str) -> None:
    """Register `.llm` for *kind*, unless another package has: its users would lose theirs without notice."""
    there = getattr(kind, "llm", None)
    if there is not None and type(there).__name__ != _LazyAccessor.__name__:
        warnings.warn(
            f"{kind.__name__}.llm already belongs to {getattr(there, '__module__', 'another package')} and was not "
            f"replaced. pllm_notebook.frame(df) has the same methods: pllm_notebook.frame(df).parse(...).",
            stacklevel=3,
        )
    elif there is None:
        register("llm")(_LazyAccessor(name))  # pandas calls what it is given; only its types ask for a class


def lost_accessors() -> str:
    """Return a warning that names those of `df.llm` and `series.llm` that another package has taken; "" for none."""
    others = [
        kind.__name__ for kind in (pd.DataFrame, pd.Series) if type(getattr(kind, "llm", None)) is not _LazyAccessor
    ]
    if not others:
        return ""
    return f"{' and '.join(others)}.llm: taken by another package. Use pllm_notebook.frame(df).parse(...) instead."


def _library() -> Any:
    return importlib.import_module(f"{__name__}.adapter").LIBRARY


_register(pd.DataFrame, pd.api.extensions.register_dataframe_accessor, "FrameLLM")
_register(pd.Series, pd.api.extensions.register_series_accessor, "SeriesLLM")
register_library("pandas", _library)
