"""The adapter for Polars. Importing this registers it, and `df.llm` and `series.llm` once Polars is imported."""

from __future__ import annotations

import importlib
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.lazy_accessor import register_accessor
from pllm_notebook.frames.libraries import register_library
from pllm_notebook.frames.on_import import when_imported

__all__ = ["ExpressionLLM"]


class ExpressionLLM:
    """`pl.col(…).llm`: raises an error that explains what to use instead.

    Polars calls an expression's function in its own threads, once for each group and each use of the expression, for
    rows that are not needed, and with invented rows to determine the type. All these calls would be paid for.
    """

    def __init__(self, expression: Any) -> None:
        self._expression = expression

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UsageError(
            f"An expression cannot ask a model: Polars may evaluate it several times, and with invented rows. Ask the "
            f"frame: df.llm.{name}(…), df['text'].llm.{name}(…), or lf.llm.parse(…) of a LazyFrame. Nothing was sent."
        )


def _library() -> Any:
    return importlib.import_module(f"{__name__}.adapter").LIBRARY


def _register_accessors() -> None:
    from polars import DataFrame, Expr, LazyFrame, Series, api

    register_accessor(DataFrame, api.register_dataframe_namespace, f"{__name__}.adapter:PolarsFrameLLM")
    register_accessor(Series, api.register_series_namespace, f"{__name__}.adapter:PolarsSeriesLLM")
    register_accessor(LazyFrame, api.register_lazyframe_namespace, f"{__name__}.lazy:PolarsLazyLLM")
    register_accessor(Expr, api.register_expr_namespace, f"{__name__}:ExpressionLLM")


register_library("polars", _library)
when_imported("polars", _register_accessors)
