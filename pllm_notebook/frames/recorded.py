"""A run that this process does not hold any more: an earlier kernel's, or one that was let go of."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import pandas as pd

from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.records import FailedCall, FailureKind
from pllm_notebook.run.explain import decoded_body
from pllm_notebook.run.record import STATUSES, RowRecord
from pllm_notebook.shown import in_html, without_controls
from pllm_notebook.store import open_store
from pllm_notebook.store.run_files import RunFiles
from pllm_notebook.store.shared import directory_now

__all__ = ["RecordedRun", "recorded_runs"]


def recorded_runs() -> Iterator[RecordedRun]:
    """Yield the runs of the cache directory of the moment, newest first. Opens no store."""
    files = RunFiles(directory_now())
    return (RecordedRun(header, files) for header in files.headers())


class RecordedRun:
    """What the registry on disk knows of a run. Reading it sends nothing.

    It holds no text of rows: `status`, `usage` and `errors` are by position in the frame that was asked; of a frame
    at hand `df.llm.status` and the others say the same of its own rows.

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
        files = RunFiles(directory_now())
        header = files.header(run_id) if isinstance(run_id, str) and run_id.isalnum() else None
        return None if header is None else cls(header, files)

    def __repr__(self) -> str:
        h = self.header
        money = "cost unknown" if h["cost_usd"] is None else f"${h['cost_usd']:.4f}"
        began = time.strftime("%Y-%m-%d %H:%M", time.gmtime(h["started_at"]))
        return without_controls(
            f"<RecordedRun {self.id} {self.state}: {h['answered'] + h['cached']:,} of {h['total']:,} rows answered "
            f"({h['cached']:,} from cache, {h['failed']:,} failed), {money}, {h['model']}, {began} UTC>"
        )

    def _repr_html_(self) -> str:
        h = self.header
        lines = [("run", repr(self)[1:-1]), ("from", h["origin"]), ("prompt", h["prompt"] or "")]
        cells = "".join(f"<tr><th>{name}</th><td>{in_html(str(text))}</td></tr>" for name, text in lines if text)
        return f"<table>{cells}</table>"

    @property
    def state(self) -> str:
        """One of "done", "cancelled", "failed", and "running" of a run that another process is at, or was killed at."""
        return str(self.header["state"])

    @property
    def cost(self) -> float | None:
        """US dollars that its calls cost, None where the price is unknown."""
        cost: float | None = self.header["cost_usd"]
        return cost

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its result."""
        return tuple(Column(c["name"], Kind(c["kind"]), tuple(c["categories"])) for c in self.header["made"])

    @cached_property
    def record(self) -> RowRecord | None:
        """What is known of each row, None where the run ended before that was written down."""
        arrays = self._files.arrays(self.id)
        return None if arrays is None else RowRecord.of_arrays(arrays)

    @property
    def status(self) -> pd.Series[Any]:
        """What became of each row, by position (see `df.llm.status`)."""
        codes = [] if self.record is None else self.record.status.tolist()
        return pd.Series(pd.Categorical([STATUSES[code] for code in codes], list(STATUSES)), name="status")

    @property
    def errors(self) -> pd.DataFrame:
        """The failed rows: position, kind, and where the failure was kept its message, attempts, raw text and cost."""
        record = self.record
        rows = [] if record is None else [at for at, kind in enumerate(record.failure.tolist()) if kind]
        found = self.failures_of(rows)
        lines = [{"position": row, **found[row]} for row in rows]
        return pd.DataFrame(lines, columns=["position", "kind", "message", "attempts", "raw", "cost_usd"])

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
            about, usage = entry.about, entry.usage
            found[row] = {
                "input_tokens": None if usage is None else usage.input_tokens,
                "output_tokens": None if usage is None else usage.output_tokens,
                "cache_read_tokens": None if usage is None else usage.cache_read_tokens,
                "cache_write_tokens": None if usage is None else usage.cache_write_tokens,
                "reasoning_tokens": None if usage is None else usage.reasoning_tokens,
                "cost_usd": about["cost_usd"],
                "latency_s": about["latency_s"],
                "attempts": about["attempts"],
                "cached": None if record is None else bool(record.status[row] == 1),
            }
        return found

    def reply(self, row: int) -> Any:
        """Return the raw response body that answered a row, decoded; None where there is none, or several did.

        A body that is no JSON is text.
        """
        found = self.replies_of([row]).get(row)
        return None if found is None else decoded_body(found[1].raw)


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
