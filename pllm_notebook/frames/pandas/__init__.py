"""The adapter for pandas. Importing this registers it, and `df.llm` and `series.llm` once pandas is imported.

The oldest adapter, and the one that a new library is written after:

- `adapter` has the accessors, the table of a frame or a series, and the frames that reports are.
- `cells` reads cells as Python values, and `columns` builds those of answers.
- `column_hashes` hashes columns by their arrays, which the registry of runs needs for large frames.
- `agreement` is the frame of `df.llm.agreement`, which can plot itself
  with matplotlib.

Nothing in this file imports pandas, so that a program that uses another library does not load it; a program that
imports it later has the accessors from that moment on (see `on_import`).
"""

from __future__ import annotations

import importlib
from typing import Any

from pllm_notebook.frames.lazy_accessor import register_accessor
from pllm_notebook.frames.libraries import register_library
from pllm_notebook.frames.on_import import when_imported

__all__: list[str] = []


def _library() -> Any:
    return importlib.import_module(f"{__name__}.adapter").LIBRARY


def _register_accessors() -> None:
    import pandas as pd

    register_accessor(pd.DataFrame, pd.api.extensions.register_dataframe_accessor, f"{__name__}.adapter:FrameLLM")
    register_accessor(pd.Series, pd.api.extensions.register_series_accessor, f"{__name__}.adapter:SeriesLLM")


# Reports without a frame are pandas' own where both libraries are loaded (see `libraries.default_library`).
register_library("pandas", _library)
when_imported("pandas", _register_accessors)
