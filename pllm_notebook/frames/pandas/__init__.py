"""The adapter for pandas. Importing this registers it, and `df.llm` and `series.llm` once pandas is imported.

This is the oldest adapter and the model for new ones:

- `adapter` has the accessors, the table of a frame or a series, and the frames of reports.
- `cells` reads cells as Python values, and `columns` builds columns of answers.
- `column_hashes` hashes columns by their arrays, which the registry of runs needs for large frames.
- `agreement` is the frame of `df.llm.agreement`, which can be plotted with matplotlib.

Importing this file does not import pandas, so a program that uses another library does not load it. If a program
imports pandas later, it gets the accessors then (see `on_import`).
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


# Reports without an input frame use pandas if both libraries are loaded (see `libraries.default_library`).
register_library("pandas", _library)
when_imported("pandas", _register_accessors)
