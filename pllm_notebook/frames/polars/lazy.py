"""`lf.llm` of Polars: a question that is evaluated when rows are collected, like the frame.

Only this file uses Polars' custom sources (`register_io_source`) and batches (`collect_batches`): Polars documents both
as unstable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import polars as pl
from polars.io.plugins import register_io_source

from pllm_notebook.exceptions import NameClashError, UsageError
from pllm_notebook.execution import Estimate, Run, options_for
from pllm_notebook.frames.accessor_lab import LabAccessor
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.guarantees import refuse_in_pieces
from pllm_notebook.frames.polars.adapter import PolarsFrameLLM
from pllm_notebook.frames.polars.columns import dtype_of
from pllm_notebook.frames.preview import Preview
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of
from pllm_notebook.options import CompleteOptions, Options, ParseOptions, taken_by
from pllm_notebook.signatures import shows

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PolarsLazyLLM", "arrow_batches"]

_ROWS = 20_000
"""Number of rows in a batch: several times the calls in flight, so that little time is lost at the end of a batch."""

_AHEAD = 2
"""Number of concurrent batches, so that calls of the next batch use the free slots at the end of the last one."""


class PolarsLazyLLM:
    """`lf.llm`: ask a language model the same question about every collected row, and only about those."""

    def __init__(self, data: pl.LazyFrame) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(PolarsFrameLLM, name):
            raise AttributeError(name)
        if hasattr(LabAccessor, name):
            call = "" if isinstance(getattr(PolarsFrameLLM, name), property) else "(…)"
            raise UsageError(
                f"A LazyFrame has no rows yet, and llm.{name} is about rows that were asked: "
                f"lf.llm.parse(…).collect().llm.{name}{call}. Nothing was sent."
            )
        in_cell = ", and in a cell %%pllm lf.collect()" if name.startswith("submit") else ""
        raise UsageError(
            f"A LazyFrame has no rows yet, and llm.{name} needs them: lf.collect().llm.{name}(…){in_cell}. A LazyFrame "
            f"has llm.parse and llm.complete, which stay lazy, llm.preview and llm.estimate. Nothing was sent."
        )

    def __repr__(self) -> str:
        return (
            "llm of a LazyFrame: .parse(Model, prompt) and .complete(prompt) stay lazy, and ask about rows that are "
            "collected; .estimate(Model, prompt) sends nothing; .preview(Model, prompt) asks few"
        )

    @shows(taken_by(Options, "parse"))
    def parse(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> pl.LazyFrame:
        """Return the lazy frame with one column per field. Nothing is sent until rows of these columns are collected.

        Only rows that Polars needs are sent: `head(5).collect()` sends five, selecting only input columns sends none,
        and a filter on input columns is applied first. `sink_parquet` writes batches in order while later ones are
        being answered.

        Args:
            response_format: As for `df.llm.parse`.
            prompt: As for `df.llm.parse`.
            **options: As for `df.llm.parse`. `max_cost_usd` applies to each collection of rows as a whole; with it,
                batches of rows are sent one after another.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
        """
        given: dict[str, Any] = {**options}
        kind = format_of(response_format, given, "parse")
        source = _Source(self._data, kind, prompt, given)
        return register_io_source(io_source=source.batches, schema=source.schema)

    @shows(taken_by(Options, "complete"))
    def complete(self, prompt: str, column: str = "answer", **options: Unpack[CompleteOptions]) -> pl.LazyFrame:
        """Return the lazy frame with a column of plain text. Nothing is sent until its rows are collected.

        Args:
            prompt: As for `df.llm.complete`.
            column: Name of the new column.
            **options: As for `parse`.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
        """
        source = _Source(self._data, None, prompt, {**options, "column": column})
        return register_io_source(io_source=source.batches, schema=source.schema)

    @shows(taken_by(Options, "parse"))
    def preview(
        self,
        response_format: Any = NOT_GIVEN,
        prompt: str | None = None,
        *,
        rows: int = 5,
        **options: Unpack[ParseOptions],
    ) -> Preview:
        """Ask about the first rows and estimate the cost of all. Collects the frame; sends at most *rows* calls."""
        given: Any = {**options}
        return PolarsFrameLLM(self._data.collect()).preview(response_format, prompt, rows=rows, **given)

    @shows(taken_by(Options, "parse"))
    def estimate(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Estimate:
        """Estimate the calls and cost of all rows. Collects the frame; sends nothing and needs no key."""
        given: Any = {**options}
        return PolarsFrameLLM(self._data.collect()).estimate(response_format, prompt, **given)


class _Source:
    """The rows of a lazy frame with their answers, on demand from Polars.

    Attributes:
        schema: Schema of the result. It follows from the type, so nothing is sent to determine it.
    """

    def __init__(self, data: pl.LazyFrame, kind: Any, prompt: str | None, options: dict[str, Any]) -> None:
        self._data, self._kind, self._prompt, self._options = data, kind, prompt, options
        refuse_in_pieces(options_for(dict(options)))
        inputs = data.collect_schema()
        # Checked without rows, so that an invalid call raises here and not when rows are collected.
        _, rows = PolarsFrameLLM(pl.DataFrame(schema=inputs))._prepare(kind, prompt, dict(options))
        shape = rows.shape
        clash = [name for name in shape.names if name in inputs]
        if clash and not options_for(dict(options)).replace:
            raise NameClashError(clash)  # rows are needed to find the earlier run that made a column
        made = {column.name: dtype_of(column) for column in shape.columns}
        for name in (shape.agreement_column, shape.confidence_column):
            if name is not None:
                made[name] = dtype_of(Column(name, Kind.REAL))
        if shape.error_column is not None:
            made[shape.error_column] = dtype_of(Column(shape.error_column, Kind.TEXT))
        self._explodes = shape.explode
        self._asked, self._made = rows.asked, frozenset(made)
        self.schema = pl.Schema({**{name: dtype for name, dtype in inputs.items() if name not in clash}, **made})

    def batches(
        self, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows that Polars needs, with these columns, in order."""
        wanted = list(self.schema) if with_columns is None else with_columns
        rows = self._data
        if predicate is not None and not self._made.intersection(predicate.meta.root_names()):
            rows, predicate = rows.filter(predicate), None  # rows that are not needed are not sent
        used = {*wanted, *(() if predicate is None else predicate.meta.root_names())}
        unasked = not used & self._made and not self._explodes
        if n_rows is not None and predicate is None:
            rows = rows.head(n_rows)  # each row has at least one line
        inputs = [name for name in rows.collect_schema() if name in used or (not unasked and name in self._asked)]
        found = _sliced(rows.select(inputs), min(batch_size or _ROWS, _ROWS))
        for answered in found if unasked else self._answered(found):
            batch = (answered if predicate is None else answered.filter(predicate)).select(wanted)
            batch = batch if n_rows is None else batch.head(n_rows)
            yield batch
            if n_rows is not None:
                n_rows -= batch.height
                if n_rows <= 0:
                    return

    def _answered(self, found: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield each batch with its answers, while later batches are being answered."""
        going: deque[Run] = deque()
        ceiling = options_for(dict(self._options)).max_cost_usd
        try:
            for batch in found:
                options = dict(self._options) if ceiling is None else {**self._options, "max_cost_usd": ceiling}
                going.append(PolarsFrameLLM(batch).submit(self._kind, self._prompt, **options))
                while len(going) >= (_AHEAD if ceiling is None else 1):
                    run = going.popleft()
                    yield self._typed(run.result())
                    if ceiling is not None:
                        ceiling = max(0.0, ceiling - (run.cost or 0.0))
            while going:
                yield self._typed(going.popleft().result())
        finally:
            for run in going:
                run.cancel()

    def _typed(self, answered: pl.DataFrame) -> pl.DataFrame:
        """Return a batch after checking that its columns have the types of the schema.

        Raises:
            UsageError: If a value turned a column into text (see `columns.array_of`).
        """
        other = [name for name in self._made if answered.schema[name] != self.schema[name]]
        if other:
            raise UsageError(
                f"Column {other[0]!r} has a value that is not one of {self.schema[other[0]]}, which a LazyFrame cannot "
                f"hold beside the others. Collect the rows first: lf.collect().llm.parse(…). Answers are in the cache."
            )
        return answered


def _sliced(rows: pl.LazyFrame, size: int) -> Iterator[pl.DataFrame]:
    """Yield the rows in order, at most *size* at once."""
    collect = getattr(rows, "collect_batches", None)
    # Polars before 1.34 has no batches: all rows are loaded into memory, but are still sent in slices.
    whole: Sequence[pl.DataFrame] | Any = (
        [rows.collect()] if collect is None else collect(chunk_size=size, maintain_order=True)
    )
    for batch in whole:
        for start in range(0, batch.height, size):
            yield batch[start : start + size]


def arrow_batches(rows: pl.LazyFrame, size: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Return the Arrow schema of a lazy frame and its rows in order, at most *size* at once."""
    level = pl.CompatLevel.oldest()
    empty = pl.DataFrame(schema=rows.collect_schema())
    batches = (batch.to_arrow(compat_level=level) for batch in _sliced(rows, size))
    return empty.to_arrow(compat_level=level).schema, batches
