"""A run that this process does not hold any more: an earlier kernel's, or one that was let go of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.explain import decoded_body
from pllm_notebook.execution.row_record import STATUSES, RowRecord
from pllm_notebook.execution.run_summary import recorded_lines, shown
from pllm_notebook.formatting import counted
from pllm_notebook.frames.dtypes import Column
from pllm_notebook.frames.pandas.cells import column_data, column_names
from pllm_notebook.frames.pandas.columns import array_of, join_columns
from pllm_notebook.frames.recorded_answers import Answers, Found, columns_in
from pllm_notebook.frames.row_content import as_frame, content_hashes
from pllm_notebook.frames.rows import USAGE_DTYPES
from pllm_notebook.records import FailedCall, FailureKind
from pllm_notebook.store import open_store
from pllm_notebook.store.process_identity import has_exited
from pllm_notebook.store.process_stores import current_directory
from pllm_notebook.store.run_files import RunFiles

__all__ = ["RUN_ATTR", "RecordedRun", "recorded_runs"]

RUN_ATTR = "pllm_run"
"""`df.attrs` holds a run's id under this name and nothing else of ours: attrs are copied with every operation."""

_PENDING = STATUSES.index("pending")
_LOST = "lost"


def recorded_runs() -> Iterator[RecordedRun]:
    """Yield the runs of the cache directory of the moment, newest first. Opens no store."""
    files = RunFiles(current_directory())
    return (RecordedRun(header, files) for header in files.headers())


class RecordedRun:
    """What the registry on disk knows of a run. Reading it sends nothing.

    It holds no text of rows: `status`, `usage` and `errors` are by position in what was asked; of a frame at hand
    `df.llm.status` and the others say the same of its own rows.

    Args:
        header: As it was written.
        files: The registry.

    Attributes:
        id: As in `df.attrs` of its result.
        header: The question and all figures (see docs/runs.md).
    """

    def __init__(self, header: dict[str, Any], files: RunFiles) -> None:
        self.id: str = header["id"]
        self.header = header
        self._files = files

    @classmethod
    def find(cls, run_id: object) -> RecordedRun | None:
        """Return the run with this id, None where the registry of the moment has none."""
        files = RunFiles(current_directory())
        header = files.header(run_id) if isinstance(run_id, str) and run_id.isalnum() else None
        return None if header is None else cls(header, files)

    def __repr__(self) -> str:
        return f"<RecordedRun {self.id} {recorded_lines(self.header, self.state)[0]}>"

    def _repr_html_(self) -> str:
        lines = recorded_lines(self.header, self.state)
        return shown(f"Run {self.id}", lines, simulated=self.header["simulated"])

    @property
    def state(self) -> str:
        """One of "done", "cancelled", "failed", "running", and "interrupted" where its process ended before it did.

        A run in batch mode goes on at the provider, and stays "running".
        """
        is_batch = self.header["options"].get("mode") == "batch"
        return "interrupted" if self._is_cut_short and not is_batch else str(self.header["state"])

    @property
    def cost(self) -> float | None:
        """US dollars that its calls cost, None where the price is unknown; of an interrupted run, at least that."""
        cost: float | None = self.header["cost_usd"]
        return cost

    @property
    def question(self) -> Mapping[str, Any]:
        """What was asked: prompt, system, model, schema (JSON), source (of the type) and options; None for none."""
        return {name: self.header[name] for name in ("prompt", "system", "model", "schema", "source", "options")}

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its result."""
        return columns_in(self.header["made"])

    @cached_property
    def record(self) -> RowRecord | None:
        """What is known of each row, None where the run ended before that was written down, or had no cache."""
        arrays = self._files.arrays(self.id)
        return None if arrays is None else RowRecord.of_arrays(arrays)

    @property
    def status(self) -> pd.Series[Any]:
        """What became of each row, by position (see `df.llm.status`).

        `lost` is a row that was answered and whose answer is not in the cache any more. Of an interrupted run, a row
        whose answer had come before its process ended is `ok`.
        """
        codes = [] if self.record is None else self.record.status.tolist()
        words = [STATUSES[code] for code in codes]
        if self.header.get("answers") == "values" and self.record is not None:
            words = self._after(self._answers(None).values(), words)
        return pd.Series(pd.Categorical(words, [*STATUSES, _LOST]), name="status")

    @property
    def errors(self) -> pd.DataFrame:
        """The failed rows: position, kind, and where the failure was kept its message, attempts, raw text and cost."""
        record = self.record
        rows = [] if record is None else [at for at, kind in enumerate(record.failure.tolist()) if kind]
        found = self.failures_of(rows)
        lines = [{"position": row, **found[row]} for row in rows]
        return pd.DataFrame(lines, columns=["position", "kind", "message", "attempts", "raw", "cost_usd"])

    @property
    def usage(self) -> pd.DataFrame:
        """Tokens, US dollars and seconds of each row, by position (see `df.llm.usage`).

        NA for a row whose answer took several replies, and for one whose reply is not in the cache any more.
        """
        rows = range(0 if self.record is None else len(self.record))
        known = self.usage_of(rows)
        return pd.DataFrame([known.get(row, {}) for row in rows], columns=list(USAGE_DTYPES)).astype(USAGE_DTYPES)

    def to_frame(self, df: pd.DataFrame | pd.Series[Any] | None = None, *, response_format: Any = None) -> pd.DataFrame:
        """Return the answers as the run's result had them, read from the cache. Sends nothing.

        Values are those of the replies as JSON, in the columns and dtypes of the result: what Python validators of
        the type changed is not there, unless the type is given.

        Args:
            df: The rows that were asked, or some of them, in any order and with any index: found by the content of
                the columns that the run was told of. None for the answers alone, since the registry holds no text of
                rows.
            response_format: The type that the run was asked with, as for `df.llm.parse`; None for the replies' JSON.

        Returns:
            Without *df*, the result columns, shape (n_rows, n_columns), index 0 to n-1 (a row's own repeated, where
            `explode` made several lines of it). With it, its columns and index, and those beside it; a row that was
            not asked has NA. So has a row without an answer, or whose answer is not in the cache any more (`status`
            is `lost`; a warning says how many), or that a `decide` function made.

        Raises:
            PllmError: When no row of *df* was asked, a column that was is not in it, the rows were never written
                down, or the answers are no values (`call_tools`, `decide`).
            NameClashError: When *df* has a column of the result's name with other values than a run's answers.
            UsageError: When *response_format* makes other columns.
        """
        record = self.record
        if record is None:
            why = "had no cache" if self.header["options"].get("cache") == "off" else "ended before they were known"
            raise PllmError(f"The rows of the run {self.id!r} are not in the registry: it {why}.")
        answers = self._answers(response_format)
        values = answers.values()
        lost = self._after(values, [STATUSES[code] for code in record.status.tolist()]).count(_LOST)
        if lost:
            warnings.warn(f"{counted(lost, 'answer')} of the run {self.id} are not in the cache any more: they are NA.",
                          stacklevel=2)  # fmt: skip
        if df is None:
            columns, origin = answers.table(values)
            made = self._made(answers, columns, np.array(origin, dtype=np.int64))
            # By position first: a column of objects is a series, which would be aligned by its labels.
            frame = pd.DataFrame(made, index=pd.RangeIndex(len(origin)))
            frame = frame.set_axis(pd.Index(origin, dtype="int64")) if answers.shape.explode else frame
        else:
            given = as_frame(df)
            rows = self._rows_of(given)
            columns, origin = answers.table([values[row] if row >= 0 else None for row in rows.tolist()])
            made = self._made(answers, columns, rows[origin])
            frame = self._beside(given, made, origin, answers)
            frame.attrs = dict(given.attrs)
        frame.attrs[RUN_ATTR] = self.id
        return frame

    def failures_of(self, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return for each failed row among *rows* what is known of its failure; text is in the kept failures alone."""
        record = self.record
        if record is None:
            return {}
        failed = [row for row in dict.fromkeys(rows) if record.failure[row]]
        keys = {row: _beginning(record, row) for row in failed}
        kept = open_store().failures_beginning(dict.fromkeys(keys.values())) if keys else {}
        kinds: list[str] = self.header["failure_kinds"]
        return {row: _told(kinds[record.failure[row] - 1], kept.get(keys[row])) for row in failed}

    def replies_of(self, rows: Sequence[int]) -> dict[int, tuple[str, Any]]:
        """Return key and stored entry of each row among *rows* that one reply answered and the cache still has."""
        record = self.record
        if record is None:
            return {}
        answered = [row for row in dict.fromkeys(rows) if record.status[row] <= 1 and not record.several[row]]
        beginnings = {row: _beginning(record, row) for row in answered}
        store = open_store()
        keys = store.keys_beginning(dict.fromkeys(beginnings.values()))
        entries = store.get_many(list(keys.values()))
        return {
            row: (keys[one], entries[keys[one]])
            for row, one in beginnings.items()
            if one in keys and keys[one] in entries
        }

    def usage_of(self, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return tokens, cost and latency of each row among *rows* that one reply answered (see `df.llm.usage`)."""
        record = self.record
        found = {}
        for row, (_, entry) in self.replies_of(rows).items():
            metadata, usage = entry.metadata, entry.usage
            found[row] = {
                "input_tokens": None if usage is None else usage.input_tokens,
                "output_tokens": None if usage is None else usage.output_tokens,
                "cache_read_tokens": None if usage is None else usage.cache_read_tokens,
                "cache_write_tokens": None if usage is None else usage.cache_write_tokens,
                "reasoning_tokens": None if usage is None else usage.reasoning_tokens,
                "cost_usd": metadata["cost_usd"],
                "latency_s": metadata["latency_s"],
                "attempts": metadata["attempts"],
                "cached": None if record is None else bool(record.status[row] == 1),
            }
        return found

    def answers(self) -> Answers:
        """Return what reads its answers and samples out of the cache, as JSON has them.

        Raises:
            PllmError: When its rows are not known, or its answers are no values.
        """
        if self.record is None:
            raise PllmError(f"The rows of the run {self.id!r} are not in the registry.")
        return self._answers(None)

    def reply(self, row: int) -> Any:
        """Return the raw response body that answered a row, decoded; None where there is none, or several did.

        A body that is no JSON is text.
        """
        found = self.replies_of([row]).get(row)
        return None if found is None else decoded_body(found[1].raw)

    @cached_property
    def _is_cut_short(self) -> bool:
        return self.header["state"] == "running" and has_exited(self.header.get("process") or {})

    def _answers(self, response_format: Any) -> Answers:
        assert self.record is not None
        return Answers(self.header, self.record, response_format, interrupted=self._is_cut_short)

    def _after(self, values: Sequence[Found | None], words: list[str]) -> list[str]:
        """Return what is known of each row once its answer has been looked for."""
        decide = (self.header["ensemble"] or {}).get("decide")
        for row, (value, word) in enumerate(zip(values, words, strict=True)):
            if word in ("ok", "cached") and value is None and decide != "function":
                words[row] = _LOST
            elif word == "pending" and value is not None:
                words[row] = "ok"
        return words

    def _made(self, answers: Answers, columns: Sequence[list[Any]], rows: np.ndarray[Any, Any]) -> dict[str, Any]:
        """Build the result's columns; *rows* has for each line the run's row, -1 for none."""
        record, shape = self.record, answers.shape
        assert record is not None
        made = {column.name: array_of(column, own) for column, own in zip(answers.columns, columns, strict=True)}
        if shape.agreement_column is not None and record.agreement:
            shares = list(record.agreement.values())[-1]  # of the whole answer, or of the one field
            known = [None if row < 0 or shares[row] != shares[row] else float(shares[row]) for row in rows.tolist()]
            made[shape.agreement_column] = pd.array(known, dtype="Float64")
        if shape.error_column is not None:
            failures = self.failures_of([row for row in rows.tolist() if row >= 0])
            told = {row: f"{failure['kind']}: {failure['message']}" for row, failure in failures.items()}
            made[shape.error_column] = pd.array([told.get(row) for row in rows.tolist()], dtype="string")
        return made

    def _rows_of(self, frame: pd.DataFrame) -> np.ndarray[Any, Any]:
        asked, names = self.header["asked"], column_names(frame)
        gone = [name for name in asked if names.count(name) != 1]
        if gone or not asked:
            what = f"it was asked of {asked!r}, and {gone!r} is not in this frame (or twice)"
            what = what if asked else "it was not asked of a frame"
            raise PllmError(f"The answers of the run {self.id!r} cannot be joined to these rows: {what}.")
        assert self.record is not None
        rows = self.record.find(content_hashes([column_data(frame, asked)], len(frame)))
        if not (rows >= 0).any():
            raise PllmError(
                f"No row of this frame has the content that the run {self.id!r} was asked about. Without a frame, "
                f"to_frame() gives its answers in the order in which they were asked."
            )
        return rows

    def _beside(self, frame: pd.DataFrame, made: Mapping[str, Any], origin: Sequence[int], answers: Answers) -> Any:
        from pllm_notebook.frames.provenance import replaceable  # it looks at recorded runs

        replaced = replaceable(frame, list(made), asked=False)
        return join_columns(frame, made, origin, replaced, explode=answers.shape.explode)[0]


def _beginning(record: RowRecord, row: int) -> str:
    return str(record.keys[row].tobytes(), "ascii")


def _told(kind: str, kept: FailedCall | None) -> dict[str, Any]:
    failure = None if kept is None or kept.failure.kind != kind else kept.failure
    if failure is None:
        told = {
            "message": "The words of this failure were not kept. Run the cell again to meet it anew.",
            "attempts": 0,
        }
        return {"kind": kind, **told, "raw": None, "cost_usd": None, "status": None, "field": None, "request_id": None}
    return {
        "kind": str(FailureKind(failure.kind)),
        "message": failure.message,
        "attempts": failure.attempts,
        "raw": failure.raw,
        "cost_usd": failure.cost_usd,
        "status": failure.status,
        "field": failure.field,
        "request_id": failure.request_id,
    }
