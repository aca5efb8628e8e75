"""The failures of a run by kind: number of rows, one complete message, and whether a retry can help."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from pllm_notebook.execution.results import ResultTable
from pllm_notebook.failures import FailureKind, truncate
from pllm_notebook.formatting import format_usd
from pllm_notebook.types import Progress

__all__ = ["FailureGroups", "can_pass", "can_retry", "retry_advice", "retry_price"]

# Kinds for which a retry changes nothing: the row cannot be sent, or the caller's own function decides.
_NEVER = frozenset({FailureKind.INPUT, FailureKind.DECISION})
_KINDS = {str(kind): kind for kind in FailureKind}
_MOST_EXAMPLES = 5
# Characters of all messages together, which are sent again whenever a row fails; and the least for each message.
_MOST_CHARS, _LEAST_CHARS = 12_000, 300


def can_pass(kind: FailureKind) -> bool:
    """Return whether a row with this failure may be answered when it is simply sent again."""
    return kind.retried or kind.fatal or kind is FailureKind.NOT_CACHED


def can_retry(kind: FailureKind) -> bool:
    """Return whether a row with this failure can be sent again at all."""
    return kind not in _NEVER


def retry_price(cost_usd: float | None, answered: int, count: int) -> float | None:
    """Estimate the cost of sending *count* rows again from the run's mean cost per answer; None for unknown.

    Args:
        cost_usd: Cost of the run so far in US dollars, None for unknown.
        answered: Number of rows that its calls answered.
        count: Number of rows to send again.
    """
    return None if cost_usd is None or not answered else float(f"{cost_usd / answered * count:.3g}")


def retry_advice(kind: str, count: int, price_usd: float | None, run: str) -> str:
    """Describe how to send failed rows again and at what price; "" if that changes nothing.

    Args:
        kind: The failure kind. There is no advice for a kind that this version does not know.
        count: Number of rows.
        price_usd: Price of all rows in US dollars, None for unknown.
        run: A Python expression for the run; "" if it is not in memory, so that only its cell can be run again.
    """
    known = _KINDS.get(kind)
    if known is None or not can_retry(known):
        return ""
    these = "it" if count == 1 else "these"
    price = "" if price_usd is None else f", for about {format_usd(price_usd)}"
    if can_pass(known):
        return f"Running the cell again sends {these} again{price}."
    return f"{run}.retry(kinds=[{kind!r}]) pays for {these} again{price}." if run else ""


class FailureGroups:
    """The failed rows of one run.

    Args:
        texts: Whether to include messages, which may quote a row, and positions of rows.
    """

    def __init__(self, *, texts: bool) -> None:
        self._texts = texts
        self._examples: defaultdict[FailureKind, deque[int]] = defaultdict(lambda: deque(maxlen=_MOST_EXAMPLES))

    def note(self, row: int, kind: FailureKind) -> None:
        """Record a failed row as an example of its kind."""
        if row not in self._examples[kind]:
            self._examples[kind].append(row)

    def groups(self, table: ResultTable, progress: Progress) -> list[dict[str, Any]]:
        """Return the groups, most frequent first (see `RunViewModel`)."""
        # Another thread may plan further rows in the meantime, so copy the items in one atomic step.
        for row, failure in list(islice(table.own_failures.items(), _MOST_EXAMPLES)):
            self.note(row, failure.kind)
        groups = [(kind, failed.count, failed.message) for kind, failed in list(table.failed.items()) if failed.count]
        longest = max(_LEAST_CHARS, _MOST_CHARS // max(1, len(groups)))
        return [
            {
                "kind": str(kind),
                "count": count,
                "message": truncate(message, longest) if self._texts else "",
                "rows": self._still_failed(table, kind) if self._texts else [],
                "can_pass": can_pass(kind),
                "can_retry": can_retry(kind),
                "price_usd": retry_price(progress.cost_usd, progress.done, count),
            }
            for kind, count, message in sorted(groups, key=lambda group: (-group[1], group[0]))
        ]

    def _still_failed(self, table: ResultTable, kind: FailureKind) -> Sequence[int]:
        found = [(row, table.failure(row)) for row in self._examples[kind]]
        return [row for row, failure in found if failure is not None and failure.kind is kind]
