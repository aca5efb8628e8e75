"""Rows in, columns out: the neutral accessor, and an adapter for each dataframe library.

Importing this registers `df.llm` and `series.llm` of pandas. What they need (Pydantic, asyncio, the engine) takes half
as long to import as pandas, so it is loaded with the first use.
"""

from pllm_notebook.frames.pandas import lost_accessors

__all__ = ["lost_accessors"]
