"""The failures of a run by kind: how many rows, one whole message, and whether asking again can help."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import Any

from pllm_notebook.execution.results import ResultTable
from pllm_notebook.failures import FailureKind
from pllm_notebook.types import Progress

__all__ = ["FailureGroups"]

# Asking again changes nothing: the row itself cannot be sent, or the caller's own function decides.
_NEVER = frozenset({FailureKind.INPUT, FailureKind.DECISION})
_MOST_EXAMPLES = 5
# Rows that cannot be sent are counted again when there are so many times as many.
_GROWTH = 1.25


class FailureGroups:
    """The failed rows of one run.

    Args:
        texts: Whether to include messages, which may quote a row, and positions of rows.
    """

    def __init__(self, *, texts: bool) -> None:
        self._texts = texts
        self._examples: defaultdict[FailureKind, deque[int]] = defaultdict(lambda: deque(maxlen=_MOST_EXAMPLES))
        self._unsendable: Counter[FailureKind] = Counter()
        self._messages: dict[FailureKind, str] = {}

    def note(self, row: int, kind: FailureKind) -> None:
        """Note a row that has failed, as an example of its kind."""
        if row not in self._examples[kind]:
            self._examples[kind].append(row)

    def groups(self, table: ResultTable, progress: Progress) -> list[dict[str, Any]]:
        """Return the groups, most frequent first (see `RunViewModel`)."""
        self._count_unsendable(table, ended=progress.state != "running")
        counts, messages = Counter(self._unsendable), dict(self._messages)
        for kind, failed in list(table.failed.items()):
            if failed.count:
                counts[kind] += failed.count
                messages.setdefault(kind, failed.message)
        price = None if progress.cost_usd is None or not progress.done else progress.cost_usd / progress.done
        return [
            {
                "kind": str(kind),
                "count": count,
                "message": messages[kind] if self._texts else "",
                "rows": self._still_failed(table, kind) if self._texts else [],
                "can_pass": kind.retried or kind.fatal or kind is FailureKind.NOT_CACHED,
                "can_retry": kind not in _NEVER,
                "price_usd": None if price is None else float(f"{price * count:.3g}"),
            }
            for kind, count in sorted(counts.items(), key=lambda group: (-group[1], group[0]))
        ]

    def _still_failed(self, table: ResultTable, kind: FailureKind) -> Sequence[int]:
        found = [(row, table.failure(row)) for row in self._examples[kind]]
        return [row for row, failure in found if failure is not None and failure.kind is kind]

    def _count_unsendable(self, table: ResultTable, *, ended: bool) -> None:
        own, counted = table.own_failures, self._unsendable.total()
        if len(own) == counted or (counted * _GROWTH > len(own) > counted and not ended):
            return
        # A copy: rows are planned in another thread.
        rows = list(own.items())
        self._unsendable = Counter(failure.kind for _, failure in rows)
        for kind in self._unsendable:
            row, failure = next((row, failure) for row, failure in rows if failure.kind is kind)
            self._messages[kind] = failure.message
            self.note(row, kind)
