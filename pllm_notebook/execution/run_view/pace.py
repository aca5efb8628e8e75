"""The speed and cost of a run over its whole duration, in a bounded number of points."""

from __future__ import annotations

from typing import Any

from pllm_notebook.types import Progress

__all__ = ["Pace"]

_MOST_POINTS = 120


class Pace:
    """Points at a fixed interval, which doubles when there are too many points."""

    def __init__(self) -> None:
        self.every_s = 1.0
        self._rows: list[float] = []
        self._usd: list[float] = []
        self._held: list[bool] = []
        self._noted_at: float | None = None
        self._ended_before = 0
        self._holds = False

    def note(self, progress: Progress, now: float) -> None:
        """Record the current counts; called at each update of a display. Ignored for a batch, which has no pace."""
        if progress.is_batch:
            return
        ended = progress.done + progress.failed
        if self._noted_at is None:
            self._noted_at, self._ended_before = now, ended
        self._holds = self._holds or bool(progress.note)
        passed_s = now - self._noted_at
        if passed_s < self.every_s:
            return
        if len(self._rows) == _MOST_POINTS:
            self._rows = [(a + b) / 2 for a, b in zip(self._rows[::2], self._rows[1::2], strict=True)]
            self._usd = self._usd[1::2]
            self._held = [a or b for a, b in zip(self._held[::2], self._held[1::2], strict=True)]
            self.every_s *= 2
            return
        self._rows.append(max(0, ended - self._ended_before) / passed_s)
        self._usd.append(progress.cost_usd or 0.0)
        self._held.append(self._holds)
        self._ended_before, self._holds, self._noted_at = ended, False, now

    def series(self) -> dict[str, Any]:
        """Return the points as data (see `RunViewModel`)."""
        return {
            "every_s": self.every_s,
            "rows": [round(rate, 2) for rate in self._rows],
            "usd": [float(f"{usd:.4g}") for usd in self._usd],
            "held": [at for at, held in enumerate(self._held) if held],
        }
