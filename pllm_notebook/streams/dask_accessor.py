"""`ddf.llm` of Dask: the cluster computes partitions, this process sends the calls, and the answers go to files.

Importing Dask registers the accessor, and this module is loaded on first use.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import Any, Unpack

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Estimate, options_for
from pllm_notebook.frames.accessor_lab import LabAccessor
from pllm_notebook.frames.frame_accessor import FrameAccessor
from pllm_notebook.frames.libraries import accessor_of
from pllm_notebook.frames.preview import Preview
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of, output_of
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.options import CompleteOptions, Options, ParseOptions, check_row_count, taken_by
from pllm_notebook.signatures import shows
from pllm_notebook.streams.dask_source import DaskSource
from pllm_notebook.streams.dataset_run import parse_dataset

__all__ = ["DaskFrameLLM", "DaskSeriesLLM"]

_ROWS = 20_000


class DaskFrameLLM:
    """`ddf.llm`: ask a language model the same question of every row, and write the rows with their answers."""

    _KIND, _SHOWN = "frame", "ddf"

    def __init__(self, data: Any) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(FrameAccessor, name):
            raise AttributeError(name)
        if hasattr(LabAccessor, name):
            call = "" if isinstance(getattr(FrameAccessor, name), property) else "(…)"
            raise UsageError(
                f"A Dask {self._KIND} has no rows yet, and llm.{name} is about rows that were asked. Their answers are "
                f"in part files: pllm.open_dataset('answers') has progress(), errors() and retry(), and "
                f"answered.compute().llm.{name}{call} is about all of them. Nothing was sent."
            )
        in_cell = f", and in a cell %%pllm {self._SHOWN}.head(10)" if name.startswith("submit") else ""
        raise UsageError(
            f"A Dask {self._KIND} has no rows yet, and llm.{name} needs them: {self._SHOWN}.head(10).llm.{name}(…)"
            f"{in_cell}. A Dask {self._KIND} has llm.parse and llm.complete with to=, llm.preview and llm.estimate. "
            f"Nothing was sent."
        )

    def __repr__(self) -> str:
        return (
            f"llm of a Dask {self._KIND}: .parse(Model, prompt, to=directory) and .complete(prompt, to=directory) "
            "write all rows with their answers; .estimate(Model, prompt) sends nothing; .preview(Model, prompt) "
            "asks few"
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
        r"""Ask about every row, write part files, and return them as a Dask frame. Blocks until all are written.

        This process sends the calls: the cluster only computes partitions, and no Dask task ever pays. Repeating the
        call resumes it (see `parse_dataset`); once finished, it sends nothing.

        Args:
            response_format: As for `df.llm.parse`.
            prompt: As for `df.llm.parse`.
            to: Directory of the part files, a path or URL that all machines can reach.
            rows: Maximum rows of a part.
            status: Whether parts have the columns `_pllm_status` and `_pllm_error`.
            **options: As for `df.llm.parse`; `max_cost_usd` is for all partitions together.

        Returns:
            `dd.read_parquet` of the parts: the frame's rows in order, with its index and the fields. A partition of
            more than *rows* rows becomes several. For a series and a type without fields, the answers as a series.

        Raises:
            UsageError: Without *to*, and as `parse_dataset`. Nothing was sent.
            BudgetError: If `max_cost_usd` was reached. The same call with a higher limit continues.

        Example:
            ddf.llm.parse(Review, "Read:\n{text}", to="s3://bucket/answers")
        """
        given: Any = {**options}
        kind = format_of(response_format, given, "parse")
        return self._answered("parse", kind, prompt, given, to=to, rows=rows, status=status)

    @shows(taken_by(Options, "complete"))
    def complete(
        self,
        prompt: str,
        column: str = "answer",
        *,
        to: str | os.PathLike[str] | None = None,
        rows: int = _ROWS,
        status: bool = True,
        **options: Unpack[CompleteOptions],
    ) -> Any:
        """Ask for plain text in a new column, like `parse`: the rows with their texts go to part files.

        Args:
            prompt: As for `df.llm.complete`.
            column: Name of the new column.
            to: As for `parse`.
            rows: As for `parse`.
            status: As for `parse`.
            **options: As for `parse`.

        Returns:
            As `parse`; for a series, the texts as a series.

        Raises:
            UsageError: Without *to*, and as `parse_dataset`. Nothing was sent.
            BudgetError: If `max_cost_usd` was reached. The same call with a higher limit continues.
        """
        given: Any = {**options, "column": column}
        return self._answered("complete", None, prompt, given, to=to, rows=rows, status=status)

    def _answered(
        self, name: str, kind: Any, prompt: str | None, given: dict[str, Any], *, to: Any, rows: int, status: bool
    ) -> Any:
        if to is None:
            raise UsageError(
                f"A Dask {self._KIND} is computed again at each use, and answers in its graph would be paid for each "
                f"time. Pass to=, a directory for the rows with their answers: {self._SHOWN}.llm.{name}(…, "
                f"to='answers'). For a look: {self._SHOWN}.llm.preview(…). Nothing was sent."
            )
        import dask.dataframe as dd

        frame = self._frame(prompt, given)
        dataset = parse_dataset(frame, to, kind, prompt, rows=rows, status=status, **given)
        answered = dd.read_parquet(
            list(dataset.paths),
            index=DaskSource(frame, rows).index,
            calculate_divisions=bool(frame.known_divisions),
            filesystem=dataset.files,
        )
        return self._result(answered, frame, kind, given)

    def _frame(self, prompt: str | None, given: dict[str, Any]) -> Any:
        """Return the frame whose rows are sent."""
        return self._data

    def _result(self, answered: Any, frame: Any, kind: Any, given: dict[str, Any]) -> Any:
        """Return the result of a call, given the parts as a Dask frame."""
        return answered

    @shows(taken_by(Options, "parse"))
    def preview(
        self,
        response_format: Any = NOT_GIVEN,
        prompt: str | None = None,
        *,
        rows: int = 5,
        **options: Unpack[ParseOptions],
    ) -> Preview:
        """Ask about the first rows and estimate the cost of all rows. Computes all partitions, sends few calls.

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
        """Estimate the calls and cost of `parse`. Computes all partitions, sends nothing and needs no key.

        Equal rows in different pieces of 20,000 rows count as separate calls here, but share one call when asked.
        """
        given: dict[str, Any] = {**options}
        kind = format_of(response_format, given, "estimate")
        source = DaskSource(self._frame(prompt, given), _ROWS)
        asked = source.question(prompt, given)
        whole: Estimate = accessor_of(source.schema().empty_table()).estimate(kind, prompt, **asked)
        with closing(source.tables()) as tables:
            for table in tables:
                piece = accessor_of(table).estimate(kind, prompt, **asked)
                whole = _followed(whole, piece) if whole.rows else piece
        return whole


class DaskSeriesLLM(DaskFrameLLM):
    """`series.llm` of Dask: ask the same question about every value, which is `{value}` in the prompt.

    The parts also contain the values, in a column with the series' name, or `value` if the prompt uses it.
    """

    _KIND, _SHOWN = "series", "ddf['text']"

    def _frame(self, prompt: str | None, given: dict[str, Any]) -> Any:
        texts = [text for text in (prompt, given.get("system")) if isinstance(text, str)]
        return self._data.to_frame("value" if any("{value}" in text for text in texts) else self._name)

    def _result(self, answered: Any, frame: Any, kind: Any, given: dict[str, Any]) -> Any:
        resolved = options_for({**given})
        shape = ResultColumns(output_of(kind, resolved), resolved)
        if shape.single:
            return answered[shape.names[0]]
        return answered.rename(columns={frame.columns[0]: self._name})

    @property
    def _name(self) -> str:
        return str(self._data.name or "value")


def _followed(first: Estimate, second: Estimate) -> Estimate:
    """Return the combined estimate of two consecutive groups of rows."""
    times = (first.time_s, second.time_s)
    return replace(
        first + second,
        rows=first.rows + second.rows,
        skipped=first.skipped + second.skipped,
        duplicates=first.duplicates + second.duplicates,
        time_s=None if None in times else sum(each for each in times if each is not None),
    )
