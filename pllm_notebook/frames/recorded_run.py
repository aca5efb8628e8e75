"""The public handle of a run that is no longer in memory: its answers, errors and usage as frames."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import STATUSES, Run, recorded_lines, shown
from pllm_notebook.formatting import counted
from pllm_notebook.frames.cell_failures import cell_records, cell_texts
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.libraries import default_library, table_to_join
from pllm_notebook.frames.probabilities import least_confidence
from pllm_notebook.frames.provenance import asked_rows, replaceable
from pllm_notebook.frames.recorded_answers import Answers, Found
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.rows import USAGE_COLUMNS
from pllm_notebook.frames.table import FrameLibrary

__all__ = ["RecordedRun"]

_LOST = "lost"


class RecordedRun(RegisteredRun):
    """A run as recorded in the registry on disk. Reading it sends nothing.

    The registry contains no text of rows, so `status`, `usage` and `errors` are by position in the original rows. If
    you have the frame, `df.llm.status` and the others report the same for its own rows.
    """

    def __repr__(self) -> str:
        mark = " SIMULATED" if self.header["simulated"] else ""
        return f"<RecordedRun {self.id} {recorded_lines(self.header, self.state)[0]}{mark}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or not hasattr(Run, name):
            raise AttributeError(f"'RecordedRun' object has no attribute {name!r}", name=name, obj=self)
        raise AttributeError(
            f"The run {self.id!r} is not in this kernel's memory, so it has no {name!r}. run.to_frame() has its "
            f"answers, .status, .errors and .usage what became of its rows, df.llm.explain(0) one row of a frame that "
            f"was asked. To send what has no answer, run the cell again: answered rows are in the cache.",
            name=name,
            obj=self,
        )

    def __await__(self) -> NoReturn:
        raise PllmError(
            f"The run {self.id!r} is not in this kernel's memory, so there is nothing to wait for. run.to_frame() has "
            f"its answers. To send what has no answer, run the cell again: answered rows are in the cache."
        )

    def _repr_html_(self) -> str:
        lines = recorded_lines(self.header, self.state)
        return shown(f"Run {self.id}", lines, simulated=self.header["simulated"])

    @property
    def status(self) -> Any:
        """The status of each row, by position (see `df.llm.status`).

        `lost` means that the row was answered but its answer is no longer in the cache. In an interrupted run, a row
        is `ok` if its answer arrived before the process ended.
        """
        codes = [] if self.record is None else self.record.status.tolist()
        words = [STATUSES[code] for code in codes]
        if self.header.get("answers") == "values" and self.record is not None:
            words = self._after_reading(self.read_answers().values(), words)
        names = [*STATUSES, _LOST]
        return default_library().category_column("status", [names.index(word) for word in words], names)

    @property
    def errors(self) -> Any:
        """The failed rows: position and kind, and for stored failures the message, attempts, raw text and cost."""
        record = self.record
        rows = [] if record is None else [at for at, kind in enumerate(record.failure.tolist()) if kind]
        found = self.failures_of(rows)
        columns: dict[str, list[Any]] = {"position": rows}
        for name in ("kind", "message", "attempts", "raw", "cost_usd"):
            columns[name] = [found[row][name] for row in rows]
        for cell in [] if record is None else cell_records(self, range(len(record))):
            for name, values in columns.items():
                values.append(cell[name])
        library = default_library()
        return library.with_error_head(library.columns_frame(columns), self.retry_usd)

    @property
    def usage(self) -> Any:
        """Tokens, US dollars and seconds of each row, by position (see `df.llm.usage`).

        NA for a row whose reply is no longer in the cache. Rows with several replies are also NA if an earlier version
        recorded the run, or if more than 200,000 rows have several.
        """
        rows = range(0 if self.record is None else len(self.record))
        known = self.usage_of(rows)
        return default_library().report(USAGE_COLUMNS, [known.get(row, {}) for row in rows])

    def to_frame(self, df: Any = None, *, response_format: Any = None) -> Any:
        """Return the answers in the columns of the run's result, read from the cache. Sends nothing.

        Values are the replies' JSON values, in the columns and dtypes of the result. Changes by Python validators of
        the type are lost, unless the type is given.

        Args:
            df: The rows of the run, or some of them, in any order and with any index. They are matched by the content
                of the columns that the run's question used. None for only the answers, since the registry contains no
                text of rows.
            response_format: The type of the run, as for `df.llm.parse`. None for the replies' JSON values.

        Returns:
            Without *df*, the result columns, shape (n_rows, n_columns), with index 0 to n-1; the index of a row is
            repeated if `explode` gave it several lines. With *df*, its columns and index, followed by the result
            columns. NA for rows that are not in the run, with a warning that counts them; for rows without an answer;
            for rows whose answer is no longer in the cache (`status` is `lost`), with a second warning; and for rows
            decided by a `decide` function.

        Raises:
            PllmError: If no row of *df* is in the run, *df* lacks a column that the run's question used, the rows were
                never recorded, or the answers are not values (`call_tools`, `decide`).
            NameClashError: If *df* has a result column with values other than a run's answers.
            UsageError: If *response_format* makes different columns.
        """
        record = self.record
        if record is None:
            why = "had no cache" if self.header["options"].get("cache") == "off" else "ended before they were known"
            raise PllmError(f"The rows of the run {self.id!r} are not in the registry: it {why}.")
        answers = self.read_answers(response_format)
        values = answers.values()
        lost = self._after_reading(values, [STATUSES[code] for code in record.status.tolist()]).count(_LOST)
        if lost:
            warnings.warn(f"{counted(lost, 'answer')} of the run {self.id} are no longer in the cache and become NA.",
                          stacklevel=2)  # fmt: skip
        if df is not None:
            table = table_to_join(df)
            rows = asked_rows(record, self.header["asked"], table, self.id)
            columns, origin = answers.table([values[row] if row >= 0 else None for row in rows.tolist()])
            made = self._made(table.frame_library, answers, columns, rows[origin])
            replaced = replaceable(table, list(made), asked=False)
            return table.join(made, origin, replaced, explode=answers.shape.explode, run_id=self.id)
        columns, origin = answers.table(values)
        library = default_library()
        made = self._made(library, answers, columns, np.array(origin, dtype=np.int64))
        return library.columns_frame(made, origin if answers.shape.explode else None, run_id=self.id)

    def columns_at(self, library: FrameLibrary, lines: Sequence[int]) -> Mapping[str, Any]:
        """Return the columns of some lines of the result as arrays of a library; -1 is a line without an answer.

        Raises:
            PllmError: If the rows are unknown, or the answers are not values.
        """
        answers = self.answers()
        columns, origin = answers.table(answers.values())
        rows = np.array([-1 if line < 0 else origin[line] for line in lines], dtype=np.int64)
        taken = [[None if line < 0 else own[line] for line in lines] for own in columns]
        return self._made(library, answers, taken, rows)

    def answers(self) -> Answers:
        """Return a reader for the run's answers and samples in the cache, as JSON values.

        Raises:
            PllmError: If the rows are unknown, or the answers are not values.
        """
        if self.record is None:
            raise PllmError(f"The rows of the run {self.id!r} are not in the registry.")
        return self.read_answers()

    def _after_reading(self, values: Sequence[Found | None], words: list[str]) -> list[str]:
        """Return the status of each row after looking up its answer."""
        decide = (self.header["ensemble"] or {}).get("decide")
        for row, (value, word) in enumerate(zip(values, words, strict=True)):
            if word in ("ok", "cached") and value is None and decide != "function":
                words[row] = _LOST
            elif word == "pending" and value is not None:
                words[row] = "ok"
        return words

    def _made(
        self, library: FrameLibrary, answers: Answers, columns: Sequence[list[Any]], rows: np.ndarray[Any, Any]
    ) -> Mapping[str, Any]:
        """Build the result columns. *rows* is the run's row for each line, -1 for a line without one."""
        record, shape = self.record, answers.shape
        assert record is not None
        made = {column.name: library.array(column, own) for column, own in zip(answers.columns, columns, strict=True)}
        if shape.agreement_column is not None and record.agreement:
            shares = list(record.agreement.values())[-1]  # the shares of the whole answer, or of the only field
            known = [None if row < 0 or shares[row] != shares[row] else float(shares[row]) for row in rows.tolist()]
            made[shape.agreement_column] = library.array(Column(shape.agreement_column, Kind.REAL), known)
        if (name := shape.confidence_column) is not None:
            made[name] = library.array(Column(name, Kind.REAL), least_confidence(self, rows.tolist()))
        if shape.error_column is not None:
            failures = self.failures_of([row for row in rows.tolist() if row >= 0])
            texts = {row: f"{failure['kind']}: {failure['message']}" for row, failure in failures.items()}
            texts |= cell_texts(self, [row for row in rows.tolist() if row >= 0])
            column = Column(shape.error_column, Kind.TEXT)
            made[shape.error_column] = library.array(column, [texts.get(row) for row in rows.tolist()])
        return made
