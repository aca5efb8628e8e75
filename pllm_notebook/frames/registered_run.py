"""A run in the registry on disk: its question, its figures and the record of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from pllm_notebook.execution import STATUSES, RowRecord, decoded_body, retry_price
from pllm_notebook.failures import FailedCall, FailureKind
from pllm_notebook.frames.dtypes import Column
from pllm_notebook.frames.recorded_answers import Answers, columns_in
from pllm_notebook.frames.samples import HOWS
from pllm_notebook.settings import Options
from pllm_notebook.store import RunFiles, current_directory, has_exited, open_store

__all__ = ["RegisteredRun", "is_readable"]

# Keys that every version has written into a header.
_LISTED = frozenset({
    "answered", "asked", "cached", "cost_usd", "duration_s", "explode", "failed", "failure_kinds", "fields",
    "input_tokens", "label", "made", "model", "not_sent", "options", "origin", "output_tokens", "prompt", "schema",
    "served", "simulated", "skipped", "source", "state", "system", "template", "total",
})  # fmt: skip


class RegisteredRun:
    """A run that is no longer in memory. Reading it sends nothing; the registry contains no text of rows.

    Attributes:
        id: The id in `df.attrs` of its result.
        header: The question and all figures (see docs/runs.md).
        files: The registry.
    """

    def __init__(self, header: dict[str, Any], files: RunFiles) -> None:
        self.id: str = header["id"]
        self.header = header
        self.files = files

    @classmethod
    def find(cls, run_id: object) -> Self | None:
        """Return the run with this id, None if the registry of the current cache directory does not have it."""
        files = RunFiles(current_directory())
        header = files.header(run_id) if isinstance(run_id, str) and run_id.isalnum() else None
        return None if header is None or not is_readable(header) else cls(header, files)

    @classmethod
    def newest_first(cls) -> Iterator[Self]:
        """Yield the runs of the current cache directory, newest first. Opens no store."""
        files = RunFiles(current_directory())
        return (cls(header, files) for header in files.headers() if is_readable(header))

    @property
    def state(self) -> str:
        """One of "done", "cancelled", "failed", "running", or "interrupted" if its process ended before the run did.

        A run in batch mode continues at the provider and remains "running".
        """
        is_batch = self.header["options"].get("mode") == "batch"
        return "interrupted" if self._is_cut_short and not is_batch else str(self.header["state"])

    @property
    def cost(self) -> float | None:
        """Cost of its calls in US dollars, None if the price is unknown. For an interrupted run, a lower bound."""
        cost: float | None = self.header["cost_usd"]
        return cost

    @property
    def retry_usd(self) -> float | None:
        """Estimated cost of retrying one row in US dollars, from the cost of the answers; None if unknown."""
        return retry_price(self.cost, self.header["answered"], 1)

    @property
    def question(self) -> Mapping[str, Any]:
        """The question: prompt, system, model, schema (JSON), source (of the type) and options; None if not set."""
        return {name: self.header[name] for name in ("prompt", "system", "model", "schema", "source", "options")}

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its result."""
        return columns_in(self.header["made"])

    @cached_property
    def record(self) -> RowRecord | None:
        """The record of its rows, None if the run ended before it was written, or had no cache."""
        arrays = self.files.arrays(self.id)
        if arrays is None:
            return None
        try:
            record = RowRecord.of_arrays(arrays)
            samples = record.samples
            if record.failure.size and record.failure.max() > len(self.header["failure_kinds"]):
                raise ValueError("a row failed in a way that it does not name")
            if samples is not None and samples.how.size and samples.how.max() > len(HOWS):
                raise ValueError("a row was decided in a way that it does not name")
        except (KeyError, TypeError, ValueError) as error:
            self.files.set_aside(self.id, str(error))
            return None
        return record

    @cached_property
    def statuses(self) -> np.ndarray[Any, Any]:
        """The status of each row as its index in `STATUSES`, shape (n_rows,), int8.

        If the process ended before the run did, rows whose answers had reached the cache are "ok".
        """
        record = self.record
        assert record is not None
        if not self._is_cut_short or self.header["answers"] != "values":
            return record.status
        statuses = record.status.copy()
        waiting = np.flatnonzero(statuses == STATUSES.index("pending"))
        found = self.read_answers().values_of(waiting.tolist())
        statuses[waiting[[value is not None for value in found]]] = STATUSES.index("ok")
        return statuses

    def failures_of(self, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return the failure of each failed row among *rows*. It includes text only if the failure was stored."""
        record = self.record
        if record is None:
            return {}
        failed = [row for row in dict.fromkeys(rows) if record.failure[row]]
        keys = {row: _key_prefix(record, row) for row in failed}
        kept = open_store().failures_beginning(dict.fromkeys(keys.values())) if keys else {}
        kinds: list[str] = self.header["failure_kinds"]
        return {row: _failure_fields(kinds[record.failure[row] - 1], kept.get(keys[row])) for row in failed}

    def replies_of(self, rows: Sequence[int]) -> dict[int, tuple[str, Any]]:
        """Return key and stored entry of each row among *rows* with a single reply that is still in the cache."""
        record = self.record
        if record is None:
            return {}
        answered = [row for row in dict.fromkeys(rows) if self.statuses[row] <= 1 and not record.several[row]]
        return _entries({row: _key_prefix(record, row) for row in answered})

    def answers_of(self, rows: Sequence[int]) -> dict[int, tuple[str, Any]]:
        """Return key and stored entry of the reply that is the answer of each of some rows (see `replies_of`).

        For a row with several replies it is the last one after repairs, the chosen one of several answers, or the
        strong model's in a cascade. Rows decided by a vote or a judge have no such reply.
        """
        record = self.record
        if record is None:
            return {}
        answered = [row for row in dict.fromkeys(rows) if self.statuses[row] <= 1]
        return _entries({row: one for row in answered if (one := _answer_prefix(record, row))})

    def usage_of(self, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return tokens, cost and latency of each row among *rows* for which they are known (see `df.llm.usage`)."""
        record = self.record
        if record is None:
            return {}
        found: dict[int, dict[str, Any]] = {}
        if (spent := record.spent) is not None:
            took = {row: one for row in rows if (one := spent.usage_of(row)) is not None}
            found = {row: {**one, "cached": bool(record.status[row] == 1)} for row, one in took.items()}
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
                "cached": bool(record.status[row] == 1),
            }
        return found

    def reply(self, row: int) -> Any:
        """Return the decoded response body that answered a row; None if there is none, or several led to the answer.

        A body that is not JSON is returned as text.
        """
        found = self.replies_of([row]).get(row)
        return None if found is None else decoded_body(found[1].raw)

    def read_answers(self, response_format: Any = None) -> Answers:
        """Return a reader for its answers and samples in the cache (see `Answers`)."""
        assert self.record is not None
        return Answers(self.header, self.record, response_format, interrupted=self._is_cut_short)

    @cached_property
    def _is_cut_short(self) -> bool:
        return self.header["state"] == "running" and has_exited(self.header.get("process") or {})


def is_readable(header: Mapping[str, Any]) -> bool:
    """Return whether this version can list a run with this header. A header from a bundle may be incomplete."""
    try:
        columns_in(header["made"])
        replace(Options(), **header.get("shaping", {}))
    except (KeyError, TypeError, ValueError):
        return False
    return header.keys() >= _LISTED


def _key_prefix(record: RowRecord, row: int) -> str:
    return str(record.keys[row].tobytes(), "ascii")


def _answer_prefix(record: RowRecord, row: int) -> str:
    """Return the key prefix of the reply that is a row's answer, "" if it is not a single reply."""
    samples = record.samples
    if samples is not None and (chosen := int(samples.chosen[row])) >= 0:
        return str(samples.keys[row, chosen].tobytes(), "ascii")
    if samples is not None and samples.how[row] not in (0, 1 + HOWS.index("escalated")):
        return "" if record.several[row] else _key_prefix(record, row)
    at = int(np.searchsorted(record.later_rows, row))
    if at < len(record.later_rows) and record.later_rows[at] == row:
        return str(record.later_keys[at].tobytes(), "ascii")
    return _key_prefix(record, row)


def _entries(prefixes: Mapping[int, str]) -> dict[int, tuple[str, Any]]:
    """Return key and stored entry of each row in the cache, given key prefixes by row."""
    store = open_store()
    keys = store.keys_beginning(dict.fromkeys(prefixes.values()))
    entries = store.get_many(list(keys.values()))
    return {
        row: (keys[one], entries[keys[one]]) for row, one in prefixes.items() if one in keys and keys[one] in entries
    }


def _failure_fields(kind: str, kept: FailedCall | None) -> dict[str, Any]:
    failure = None if kept is None or kept.failure.kind != kind else kept.failure
    if failure is None:
        return {
            "kind": kind,
            "message": "The message of this failure was not kept. Run the cell again to reproduce it.",
            "attempts": 0,
            "raw": None,
            "cost_usd": None,
            "status": None,
            "field": None,
            "request_id": None,
        }
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
