"""Rows in, columns out: the accessors, and what of them no dataframe library matters to.

Importing this registers `df.llm` and `series.llm`. What they need (Pydantic, asyncio, the engine) takes as long
to import as half of pandas, so it comes with the first use.
"""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd

__all__ = ["lost_accessors"]


class _Accessor:
    """`.llm`: ask a language model the same question of every row.

    Stands for an accessor's class where pandas keeps it, and loads that class when it is first used.
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
        from pllm_notebook.frames.pandas import accessor

        return getattr(accessor, self._name)


def _register(kind: type[Any], register: Any, name: str) -> None:
    """Register `.llm` for *kind*, unless another package has: its users would lose theirs without a word."""
    there = getattr(kind, "llm", None)
    if there is not None and type(there).__name__ != _Accessor.__name__:
        warnings.warn(
            f"{kind.__name__}.llm is already that of {getattr(there, '__module__', 'another package')} and was left "
            f"alone. pllm_notebook.frame(df) gives the same methods: pllm_notebook.frame(df).parse(...).",
            stacklevel=3,
        )
    elif there is None:
        register("llm")(_Accessor(name))  # pandas calls what it is given; its types alone ask for a class


_register(pd.DataFrame, pd.api.extensions.register_dataframe_accessor, "FrameLLM")
_register(pd.Series, pd.api.extensions.register_series_accessor, "SeriesLLM")


def lost_accessors() -> str:
    """Say which of `df.llm` and `series.llm` are another package's by now, and what to do; "" for none."""
    others = [kind.__name__ for kind in (pd.DataFrame, pd.Series) if type(getattr(kind, "llm", None)) is not _Accessor]
    if not others:
        return ""
    return f"{' and '.join(others)}.llm: taken by another package. Use pllm_notebook.frame(df).parse(...) in its place."
