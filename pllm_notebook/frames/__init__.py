"""Rows in, columns out: the neutral accessor, and an adapter for each dataframe library.

Importing this registers `df.llm` and `series.llm` of pandas, Polars and Dask, for when those are imported; it loads
none of them. What the accessors need (Pydantic, asyncio, the engine) is loaded with the first use.
"""

from pllm_notebook.frames import arrow, pandas, polars  # the first is what reports are made of by default
from pllm_notebook.frames.lazy_accessor import lost_accessors, register_dask
from pllm_notebook.frames.on_import import when_imported

__all__ = ["arrow", "lost_accessors", "pandas", "polars"]

when_imported("dask.dataframe", register_dask)
