"""`ddf.llm` of Dask: the cluster makes partitions, this process asks, and the answers are in files.

It is loaded with the first use: importing Dask alone registers it.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import Any, Unpack

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Estimate
from pllm_notebook.frames.accessor import LLMAccessor, Preview
from pllm_notebook.frames.libraries import accessor_of
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of
from pllm_notebook.options import Options, ParseOptions, check_row_count, taken_by
from pllm_notebook.signatures import shows
from pllm_notebook.streams.dask_source import DaskSource
from pllm_notebook.streams.dataset_run import parse_dataset

__all__ = ["DaskFrameLLM", "DaskSeriesLLM"]

_ROWS = 20_000


class DaskFrameLLM:
    """`ddf.llm`: ask a language model the same question of every row, and write the rows with their answers."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(LLMAccessor, name):
            raise AttributeError(name)
        raise UsageError(
            f"A Dask frame has no rows yet, and llm.{name} needs them: ddf.head(10).llm.{name}(…). A Dask frame has "
            f"llm.parse with to=, llm.preview and llm.estimate. Nothing was sent."
        )

    @shows(taken_by(Options, "parse"))
    def parse(
        self,
        response_format: Any = NOT_GIVEN,
        prompt: str | None = None,
        *,
        to: str | os.PathLike[str] | None = None,
        rows: int = _ROWS,
        status: bool = True,
        **options: Unpack[ParseOptions],
    ) -> Any:
        r"""Ask about every row at once, write part files, and return them as a Dask frame. Blocks until all are there.

        This process sends: the cluster makes partitions, and no task ever pays. The same call resumes (see
        `parse_dataset`), and a finished one sends nothing.

        Args:
            response_format: As for `df.llm.parse`.
            prompt: As for `df.llm.parse`.
            to: Directory of the part files, a path or an address that all machines reach.
            rows: Rows of a part at most.
            status: Whether parts have the columns `_pllm_status` and `_pllm_error`.
            **options: As for `df.llm.parse`; `max_cost_usd` is for all partitions together.

        Returns:
            `dd.read_parquet` of the parts: the frame's rows in its order with its index, and the fields. A partition of
            more than *rows* rows has become several.

        Raises:
            UsageError: Without *to*, and as `parse_dataset`. Nothing was sent.
            BudgetError: When `max_cost_usd` was reached. The same call with a higher one goes on.

        Example:
            ddf.llm.parse(Review, "Read:\n{text}", to="s3://bucket/answers")
        """
        if to is None:
            raise UsageError(
                "A Dask frame is computed again at each use, and answers in its graph would be paid for each time. "
                "Pass to=, a directory for the rows with their answers: ddf.llm.parse(…, to='answers'). For a look: "
                "ddf.llm.preview(…). Nothing was sent."
            )
        import dask.dataframe as dd

        given: Any = {**options}
        dataset = parse_dataset(self._data, to, response_format, prompt, rows=rows, status=status, **given)
        return dd.read_parquet(
            list(dataset.paths),
            index=DaskSource(self._data, rows).index,
            calculate_divisions=bool(self._data.known_divisions),
            filesystem=dataset.files,
        )

    @shows(taken_by(Options, "parse"))
    def preview(
        self,
        response_format: Any = NOT_GIVEN,
        prompt: str | None = None,
        *,
        rows: int = 5,
        **options: Unpack[ParseOptions],
    ) -> Preview:
        """Ask about the first rows, and estimate what all would cost. Computes all partitions; sends few calls.

        Args:
            response_format: As for `df.llm.parse`.
            prompt: As for `df.llm.parse`.
            rows: Number of rows, from the top.
            **options: As for `df.llm.parse`.
        """
        check_row_count(rows)
        given: Any = {**options}
        kind = format_of(response_format, given, "preview")
        head = self._data.head(rows, npartitions=-1, compute=True)
        return Preview(accessor_of(head).parse(kind, prompt, **given), self.estimate(kind, prompt, **given))

    @shows(taken_by(Options, "parse"))
    def estimate(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Estimate:
        """Estimate what `parse` would send and cost. Computes all partitions; sends nothing and needs no key.

        Equal rows of different pieces of 20,000 count as calls of their own here, and share one when they are asked.
        """
        given: dict[str, Any] = {**options}
        kind = format_of(response_format, given, "estimate")
        source = DaskSource(self._data, _ROWS)
        asked = source.question(prompt, given)
        whole: Estimate = accessor_of(source.schema().empty_table()).estimate(kind, prompt, **asked)
        with closing(source.tables()) as tables:
            for table in tables:
                piece = accessor_of(table).estimate(kind, prompt, **asked)
                whole = _followed(whole, piece) if whole.rows else piece
        return whole


class DaskSeriesLLM:
    """`series.llm` of Dask: an error that says how to ask."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(LLMAccessor, name):
            raise AttributeError(name)
        raise UsageError(
            "Ask the frame, since the answers are written beside its rows: ddf[['text']].llm.parse(Model, '{text}', "
            "to='answers'). Nothing was sent."
        )


def _followed(first: Estimate, second: Estimate) -> Estimate:
    """Return the estimate of rows and of those after them."""
    times = (first.time_s, second.time_s)
    return replace(
        first + second,
        rows=first.rows + second.rows,
        skipped=first.skipped + second.skipped,
        duplicates=first.duplicates + second.duplicates,
        time_s=None if None in times else sum(each for each in times if each is not None),
    )
