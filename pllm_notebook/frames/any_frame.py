"""`.llm` as functions of any frame: `pllm.frame`, `pllm.parse` and related functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack, overload

from pllm_notebook.execution import Estimate, Run
from pllm_notebook.frames.libraries import accessor_of
from pllm_notebook.frames.preview import Preview
from pllm_notebook.frames.response_format import NOT_GIVEN
from pllm_notebook.options import Options, ParseOptions, taken_by
from pllm_notebook.signatures import shows

if TYPE_CHECKING:  # a library is loaded only by its users
    import pandas as pd
    import polars as pl

    from pllm_notebook.frames.frame_accessor import FrameAccessor
    from pllm_notebook.frames.pandas.adapter import FrameLLM, SeriesLLM
    from pllm_notebook.frames.polars.adapter import PolarsFrameLLM, PolarsSeriesLLM

__all__ = ["aparse", "estimate", "frame", "parse", "preview", "submit"]


@overload
def frame(data: pd.DataFrame) -> FrameLLM: ...
@overload
def frame(data: pd.Series[Any]) -> SeriesLLM: ...
@overload
def frame(data: pl.DataFrame) -> PolarsFrameLLM: ...
@overload
def frame(data: pl.Series) -> PolarsSeriesLLM: ...
@overload
def frame(data: Any) -> FrameAccessor[Any, Any, Any]: ...
def frame(data: Any) -> Any:
    r"""Return the accessor `df.llm` for data without it, or if another package has taken its name.

    Args:
        data: A DataFrame or Series of pandas or Polars; a table or array of PyArrow, or any object that streams Arrow
            data (`__arrow_c_stream__`), such as a DuckDB relation, which is read completely; a LazyFrame; or a frame
            or series of Dask. Never changed.

    Example:
        out = pllm.frame(df).parse(Review, "Read this review:\n{text}")

    Raises:
        UsageError: For anything else.
        MissingPackageError: For Arrow data, if PyArrow is not installed.
    """
    return accessor_of(data)


@shows(taken_by(Options, "parse"))
def parse(
    data: Any, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
) -> Any:
    """Ask the model the same question about every row of any frame (see `df.llm.parse`).

    Args:
        data: Any data for `pllm.frame`: a frame or column of pandas, Polars or PyArrow, or an object that streams Arrow
            data, such as a DuckDB relation or a Spark DataFrame. A stream is read completely, once, before anything is
            sent.
        response_format: As for `df.llm.parse`.
        prompt: As for `df.llm.parse`.
        **options: As for `df.llm.parse`.

    Returns:
        The input columns and one column per field, in the rows' order, as a frame of the library of *data*, or as a
        PyArrow table for a stream of another library.

    Raises:
        UsageError: If the call is invalid. Nothing was sent.
        MissingPackageError: For Arrow data, if PyArrow is not installed. Nothing was sent.
    """
    return accessor_of(data, "pllm.parse").parse(response_format, prompt, **options)


@shows(taken_by(Options, "parse"), as_for=parse)
async def aparse(
    data: Any, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
) -> Any:
    """Run `parse` and await its result. Cancelling stops the run."""
    return await accessor_of(data, "pllm.aparse").aparse(response_format, prompt, **options)


@shows(taken_by(Options, "parse"), as_for=parse)
def submit(
    data: Any, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
) -> Run:
    """Start `parse` in the background and return a live handle immediately.

    Returns:
        A `Run`: `result()` or `await` returns the frame, `to_frame()` the rows so far, and `cancel()` stops it.

    Raises:
        UsageError: If the call is invalid. Nothing was sent.
    """
    run: Run = accessor_of(data, "pllm.submit").submit(response_format, prompt, **options)
    return run


@shows(taken_by(Options, "parse"))
def preview(
    data: Any,
    response_format: Any = NOT_GIVEN,
    prompt: str | None = None,
    *,
    rows: int = 5,
    **options: Unpack[ParseOptions],
) -> Preview:
    """Ask about the first rows, and estimate the cost of all rows (see `df.llm.preview`).

    Args:
        data: As for `parse`.
        response_format: As for `parse`.
        prompt: As for `parse`.
        rows: Number of rows, from the top. At most this many calls are sent.
        **options: As for `parse`.

    Returns:
        A `Preview`: `frame` has the first rows with their answers, `estimate` the calls and cost of all rows.

    Raises:
        UsageError: If the call is invalid. Nothing was sent.
    """
    shown: Preview = accessor_of(data, "pllm.preview").preview(response_format, prompt, rows=rows, **options)
    return shown


@shows(taken_by(Options, "parse"), as_for=parse)
def estimate(
    data: Any, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
) -> Estimate:
    """Estimate the calls and cost of `parse`, live and as a batch. Sends nothing and needs no key.

    Returns:
        An `Estimate`: rows, cached, duplicates, tokens, cost and time, with None for unknown values.

    Raises:
        UsageError: If the call is invalid.
    """
    estimated: Estimate = accessor_of(data, "pllm.estimate").estimate(response_format, prompt, **options)
    return estimated
