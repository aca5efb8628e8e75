"""The recorded usage of rows with several replies, and of failed rows that were paid for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.results import ResultTable

__all__ = ["SpentRecord"]

# A record takes 44 bytes a row, and a registry 64 MB; decoding the usage of a reply takes microseconds.
_MAX_ROWS = 200_000

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass
class SpentRecord:
    """The usage of some rows of a run, with all replies of a row together.

    Attributes:
        rows: Shape (n_spent,), int32, ascending.
        tokens: Shape (n_spent, 5), int32: input, output, read from and written to the prompt cache, reasoning; -1 for
            unknown.
        cost_usd: Shape (n_spent,), float64; NaN for unknown.
        latency_s: Shape (n_spent,), float64: of the last reply; NaN for unknown.
        attempts: Shape (n_spent,), int32.
    """

    rows: Numbers
    tokens: Numbers
    cost_usd: Numbers
    latency_s: Numbers
    attempts: Numbers

    @classmethod
    def of(cls, results: ResultTable, rows: Numbers) -> SpentRecord | None:
        """Return the usage of some rows of a run, None if no row has replies or there are too many rows.

        Args:
            results: The results of the run.
            rows: Rows with several replies, or without an answer; shape (n,), ascending.
        """
        if len(rows) > _MAX_ROWS:
            return None
        took: dict[int, tuple[list[int], float, float, int]] = {}
        kept = []
        for row in rows.tolist():
            call = results.call_of_row[row]
            outcome = results.outcomes[call] if call >= 0 else None
            if outcome is not None and (outcome.metas or outcome.earlier):
                kept.append((row, call))
                if call not in took:
                    took[call] = _took(outcome)
        if not kept:
            return None
        lines = [took[call] for _, call in kept]
        return cls(
            np.array([row for row, _ in kept], dtype=np.int32),
            np.array([tokens for tokens, *_ in lines], dtype=np.int32),
            np.array([cost for _, cost, *_ in lines], dtype=np.float64),
            np.array([latency for *_, latency, _ in lines], dtype=np.float64),
            np.array([attempts for *_, attempts in lines], dtype=np.int32),
        )

    def arrays(self) -> dict[str, Numbers]:
        """Return the arrays by their names in a run's record."""
        return {f"spent:{name}": array for name, array in vars(self).items()}

    def usage_of(self, row: int) -> dict[str, Any] | None:
        """Return the usage of a row, in the format of `df.llm.usage`; None for a row that is not recorded here."""
        at = int(np.searchsorted(self.rows, row))
        if at == len(self.rows) or self.rows[at] != row:
            return None
        tokens = [None if count < 0 else count for count in self.tokens[at].tolist()]
        names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
        cost, latency = float(self.cost_usd[at]), float(self.latency_s[at])
        return {
            **dict(zip(names, tokens, strict=True)),
            "cost_usd": None if cost != cost else cost,
            "latency_s": None if latency != latency else latency,
            "attempts": int(self.attempts[at]),
        }


def _took(outcome: Outcome) -> tuple[list[int], float, float, int]:
    replies, usage = outcome.replies(), outcome.usage
    tokens = [-1] * 5 if usage is None else [
        usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens,
        usage.reasoning_tokens,
    ]  # fmt: skip
    cost, latency = outcome.cost_usd, replies[-1]["latency_s"]
    return (
        tokens,
        float("nan") if cost is None else cost,
        float("nan") if latency is None else latency,
        sum(about["attempts"] for about in replies),
    )
