"""Rows in, columns out: the accessors, and what of them no dataframe library matters to.

Importing this registers `df.llm` and `series.llm`. What they need (Pydantic, asyncio, the engine) takes as long
to import as half of pandas, so it comes with the first use.
"""

from __future__ import annotations

from typing import Any, cast

import pandas as pd

__all__: list[str] = []


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
        from pllm_notebook.frames import pandas

        return getattr(pandas, self._name)


# pandas calls what it is given; its types alone ask for a class.
pd.api.extensions.register_dataframe_accessor("llm")(cast("type[Any]", _Accessor("FrameLLM")))
pd.api.extensions.register_series_accessor("llm")(cast("type[Any]", _Accessor("SeriesLLM")))
