"""What one viewer of a run has not seen yet, within a bounded number of bytes a second."""

from __future__ import annotations

from typing import Any

import orjson

from pllm_notebook.execution.run_view.counts_model import CountsModel
from pllm_notebook.execution.run_view.view_model import RunViewModel
from pllm_notebook.types import Progress

__all__ = ["RunViewUpdates"]

# A message's own frame and the escapes of text take some of the 60,000 that a view may send.
_BYTES_PER_S = 40_000
# Sections beside the head are looked at less often.
_SLOW_EVERY_S = 1.0
# Rows that a person can follow while they scroll by.
_MOST_NEW_ROWS = 12


class RunViewUpdates:
    """The changes of a model for one viewer.

    Args:
        model: The run's; several viewers share one.
    """

    def __init__(self, model: RunViewModel | CountsModel) -> None:
        self._model = model
        self._sent: dict[str, Any] = {}
        self._last_row = 0
        self._bytes = float(_BYTES_PER_S)
        self._at: float | None = None
        self._slow_at = -1.0
        self._failed = 0

    def whole(self, now: float) -> dict[str, Any]:
        """Return all sections, for a viewer that has seen nothing."""
        snapshot = self._model.snapshot()
        self._sent = {name: part for name, part in snapshot.items() if name != "sample"}
        self._last_row = self._model.sample[-1][0] if self._model.sample else 0
        self._at, self._slow_at, self._bytes = now, now, 0.0
        self._failed = snapshot["head"]["failed"]
        return snapshot

    def changes(self, progress: Progress, now: float, *, last: bool = False) -> dict[str, Any]:
        """Return the sections that changed; {} where nothing did, or where too much has been sent lately.

        Args:
            progress: The run's, of this moment.
            now: Seconds of the monotonic clock.
            last: Whether nothing follows: everything is due, whatever its size.
        """
        model = self._model
        # Views of one run share what a browser may be sent.
        rate = _BYTES_PER_S / max(1, len(model.viewers))
        self._bytes = min(rate, self._bytes + rate * (now - (self._at or now)))
        self._at = now
        # The head counts the failures that are listed: what is listed goes with it.
        slow = last or now - self._slow_at >= _SLOW_EVERY_S or self._failed != progress.failed
        changed: dict[str, Any] = {}
        for name, part in model.sections(progress, slow=slow).items():
            if part == self._sent.get(name):
                continue
            size = len(orjson.dumps(part))
            # These always go: they are small, and say what the run costs and lacks.
            if last or name in ("head", "failures", "jobs") or size <= self._bytes:
                self._bytes -= size
                self._sent[name] = changed[name] = part
        if slow:
            self._slow_at, self._failed = now, progress.failed
        rows = self._new_rows(last=last)
        if rows:
            changed["sample"] = rows
        return changed

    def _new_rows(self, *, last: bool) -> list[dict[str, Any]]:
        """Return the newest rows that the viewer has not seen, newest first; those that do not fit are left out."""
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
