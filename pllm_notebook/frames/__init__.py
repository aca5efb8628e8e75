"""The library-independent accessor `.llm`, and an adapter for each dataframe library.

Importing this package registers `df.llm` and `series.llm` for pandas, Polars and Dask without loading these libraries.
The dependencies of the accessors (Pydantic, asyncio, the engine) are loaded on first use.
"""

from pllm_notebook.frames import arrow, pandas, polars
from pllm_notebook.frames.lazy_accessor import lost_accessors, register_dask
from pllm_notebook.frames.on_import import when_imported

__all__ = ["arrow", "lost_accessors", "pandas", "polars"]

when_imported("dask.dataframe", register_dask)
