"""The changes of a run's view for one viewer, limited in bytes per second."""

from __future__ import annotations

from typing import Any

import orjson

from pllm_notebook.execution.run_view.counts_model import CountsModel
from pllm_notebook.execution.run_view.view_model import RunViewModel
from pllm_notebook.types import Progress

__all__ = ["RunViewUpdates"]

# In any second, at most the burst plus one second of the rate is sent. Message framing and text escapes take the rest
# of the 60,000 bytes that a view may send.
_BYTES_PER_S = 32_000
_BURST_S = 0.6
# Failures and jobs up to this size are sent at once.
_SMALL_BYTES = 2_000
# Interval of the sections other than the head.
_SLOW_EVERY_S = 1.0
# Maximum number of new rows per update, so that the user can still read them as they scroll by.
_MOST_NEW_ROWS = 12


class RunViewUpdates:
    """The changes of a model for one viewer.

    Args:
        model: The run's model, which several viewers share.
    """

    def __init__(self, model: RunViewModel | CountsModel) -> None:
        self._model = model
        self._sent: dict[str, Any] = {}
        self._sent_at: dict[str, float] = {}
        self._waits, self._rows_first = False, True
        self._last_row = 0
        self._bytes = _BYTES_PER_S * _BURST_S
        self._at: float | None = None
        self._slow_at = -1.0
        self._failed = 0

    def whole(self, now: float) -> dict[str, Any]:
        """Return all sections, for a viewer that has no data yet."""
        snapshot = self._model.snapshot()
        self._sent = {name: part for name, part in snapshot.items() if name != "sample"}
        self._last_row = self._model.sample[-1][0] if self._model.sample else 0
        self._at, self._slow_at, self._bytes = now, now, 0.0
        self._failed = snapshot["head"]["failed"]
        return snapshot

    def changes(self, progress: Progress, now: float, *, last: bool = False) -> dict[str, Any]:
        """Return the changed sections; {} if nothing changed, or too much was sent recently.

        Args:
            progress: The run's current counts.
            now: Seconds on the monotonic clock.
            last: Whether this is the last update, which includes all changes of any size.
        """
        model = self._model
        # The viewers of one run share the byte rate.
        rate = _BYTES_PER_S / max(1, len(model.viewers))
        most = rate * _BURST_S
        self._bytes = min(most, self._bytes + rate * (now - (self._at or now)))
        self._at = now
        # The head contains the number of failures, so the list of failures is sent with it.
        slow = last or self._waits or now - self._slow_at >= _SLOW_EVERY_S or self._failed != progress.failed
        sections = self._longest_unsent(model.sections(progress, slow=slow))
        if slow:
            self._slow_at, self._failed = now, progress.failed
        # If not everything fits, rows and sections take turns; the one whose turn it is waits for enough bytes.
        rows = self._new_rows(last=last) if last or self._rows_first or not self._waits else []
        changed: dict[str, Any] = {}
        self._waits = False
        for name, part in sections:
            size = len(orjson.dumps(part))
            # The head is always sent: it shows the cost. A section larger than a burst is sent on credit.
            is_urgent = name == "head" or (name in ("failures", "jobs") and size <= _SMALL_BYTES)
            if last or is_urgent or (not self._waits and (size <= self._bytes or self._bytes >= most)):
                self._bytes -= size
                self._sent[name] = changed[name] = part
                self._sent_at[name] = now
                self._rows_first = self._rows_first or not is_urgent
            else:
                self._waits = True
        if rows:
            changed["sample"] = rows
            self._rows_first = not self._waits
        return changed

    def _longest_unsent(self, sections: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return the changed sections, the one sent longest ago first."""
        changed = [(name, part) for name, part in sections.items() if part != self._sent.get(name)]
        return sorted(changed, key=lambda section: self._sent_at.get(section[0], 0.0))

    def _new_rows(self, *, last: bool) -> list[dict[str, Any]]:
        """Return the newest rows that the viewer has not seen, newest first. Rows that do not fit are left out."""
        model = self._model
        found: list[dict[str, Any]] = []
        most = model.sample.maxlen if last else _MOST_NEW_ROWS
        for sequence, row in reversed(model.sample):
            if sequence <= self._last_row or len(found) == most:
                break
            (shown,) = model.sample_rows((row,)) or (None,)
            if shown is None:
                break
            size = len(orjson.dumps(shown))
            if size > self._bytes and not last:
                break
            self._bytes -= size
            found.append(shown)
        if model.sample:
            self._last_row = model.sample[-1][0]
        return found
