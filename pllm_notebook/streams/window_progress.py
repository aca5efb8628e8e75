"""One display for many runs: the sum of what they have done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol

from pllm_notebook.display_registry import SafeDisplay, new_display
from pllm_notebook.execution import Run
from pllm_notebook.types import Progress

__all__ = ["Stoppable", "WindowProgress", "sum_of"]


class Stoppable(Protocol):
    """What the display's Stop button stops."""

    def stop(self) -> None:
        """Stop it. From any thread."""


# Counts that add up; the rest is the latest run's, or the whole's own.
_SUMMED = (
    "total", "done", "cached", "failed", "skipped", "in_flight", "rows_per_s", "input_tokens", "output_tokens",
    "cached_tokens", "not_sent", "maybe_paid_requests", "maybe_paid_usd", "reserved_usd",
)  # fmt: skip


def sum_of(first: Progress, second: Progress) -> Progress:
    """Return what two runs have done together; label, model, ceiling and news are those of the second."""
    summed = {name: getattr(first, name) + getattr(second, name) for name in _SUMMED}
    costs = (first.cost_usd, second.cost_usd)
    cost = None if None in costs else sum(one for one in costs if one is not None)
    return replace(second, cost_usd=cost, simulated=first.simulated or second.simulated, eta_s=None, **summed)


class WindowProgress:
    """The display of the runs of one stream, and the counts of those that have ended.

    Args:
        shown: Whether to show anything.
        label: The display's first words.
    """

    def __init__(self, shown: bool, label: str) -> None:
        self._shown = shown
        self._label = label
        self._display: SafeDisplay | None = None
        self._is_closed = False
        self._ended: Progress | None = None
        self._began = time.monotonic()

    @property
    def stays(self) -> bool:
        """Whether the display's last line says how it ended."""
        return self._display is not None and self._display.stays

    @property
    def failed(self) -> int:
        """Failed rows of the runs that have ended."""
        return 0 if self._ended is None else self._ended.failed

    def open(self, stoppable: Stoppable, run: Run) -> None:
        """Open the display with the first run."""
        if self._display is None:
            self._display = SafeDisplay(new_display() if self._shown else None)
            self._display.open(self._whole([run], "running"), stoppable.stop)

    def update(self, going: Sequence[Run]) -> None:
        """Show the counts of this moment."""
        if self._display is not None and (going or self._ended is not None):
            self._display.update(self._whole(going, "running"))

    def add(self, counts: Progress) -> None:
        """Count a run that has ended."""
        counts = replace(counts, in_flight=0, rows_per_s=0.0, reserved_usd=0.0)
        self._ended = counts if self._ended is None else sum_of(self._ended, counts)

    def close(self, going: Sequence[Run], state: Literal["done", "cancelled", "failed"]) -> None:
        """Show the end; nothing where it was shown before."""
        if self._display is not None and not self._is_closed and (going or self._ended is not None):
            self._is_closed = True
            self._display.close(self._whole(going, state), None)

    def whole(self, going: Sequence[Run] = ()) -> Progress | None:
        """Return the counts of all runs, None before the first."""
        return self._whole(going, "running") if going or self._ended is not None else None

    def _whole(self, going: Sequence[Run], state: Literal["running", "done", "cancelled", "failed"]) -> Progress:
        counts = [] if self._ended is None else [self._ended]
        counts += [run.progress() for run in going]
        whole = counts[0]
        for one in counts[1:]:
            whole = sum_of(whole, one)
        return replace(whole, label=self._label, state=state, elapsed_s=time.monotonic() - self._began, eta_s=None)
