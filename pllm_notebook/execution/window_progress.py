"""One display for many runs, which go at once or follow one another: the sum of what they have done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, Protocol

from pllm_notebook.display_registry import SafeDisplay, new_display
from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.formatting import counted
from pllm_notebook.protocols import Display
from pllm_notebook.types import Progress

__all__ = ["StepsDisplay", "Stoppable", "WindowProgress", "sum_of"]


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

    def open(self, stoppable: Stoppable, run: LiveRun) -> None:
        """Open the display with the first run."""
        if self._display is None:
            self._display = SafeDisplay(new_display() if self._shown else None)
            self._display.open(self._whole([run], "running"), stoppable.stop)

    def update(self, going: Sequence[LiveRun]) -> None:
        """Show the counts of this moment."""
        if self._display is not None and (going or self._ended is not None):
            self._display.update(self._whole(going, "running"))

    def add(self, counts: Progress) -> None:
        """Count a run that has ended."""
        counts = replace(counts, in_flight=0, rows_per_s=0.0, reserved_usd=0.0)
        self._ended = counts if self._ended is None else sum_of(self._ended, counts)

    def close(self, going: Sequence[LiveRun], state: Literal["done", "cancelled", "failed"]) -> None:
        """Show the end; nothing where it was shown before."""
        if self._display is not None and not self._is_closed and (going or self._ended is not None):
            self._is_closed = True
            self._display.close(self._whole(going, state), None)

    def whole(self, going: Sequence[LiveRun] = ()) -> Progress | None:
        """Return the counts of all runs, None before the first."""
        return self._whole(going, "running") if going or self._ended is not None else None

    def _whole(self, going: Sequence[LiveRun], state: Literal["running", "done", "cancelled", "failed"]) -> Progress:
        counts = [] if self._ended is None else [self._ended]
        counts += [run.progress() for run in going]
        whole = counts[0]
        for one in counts[1:]:
            whole = sum_of(whole, one)
        return replace(whole, label=self._label, state=state, elapsed_s=time.monotonic() - self._began, eta_s=None)


class StepsDisplay:
    """One display for runs that follow one another: each adds its counts to those of the runs before it.

    The first one opens it, in the cell that is running then; the last one, or one that is stopped, closes it.

    Args:
        shown: Whether to show anything.
        label: The display's first words.
    """

    def __init__(self, shown: bool, label: str) -> None:
        self._shown, self._label = shown, label
        self._display: SafeDisplay | None = None
        self._ended: Progress | None = None
        self._steps = 0
        self._began = time.monotonic()
        self._is_closed = False

    def step(self) -> Display | None:
        """Return the display of the next step, which is not the last; None where nothing is shown."""
        return self._next(is_last=False)

    def last(self) -> Display | None:
        """Return the display of the last step; None where nothing is shown."""
        return self._next(is_last=True)

    def abandon(self) -> None:
        """Show that no further step comes, where the last one did not say so."""
        if self._display is not None and self._ended is not None and not self._is_closed:
            self._is_closed = True
            self._display.close(replace(self._ended, state="failed"), None)

    def whole(self, before: Progress | None, progress: Progress) -> Progress:
        """Return the counts of a step and of those before it."""
        whole = progress if before is None else sum_of(before, progress)
        label = f"{self._label}, {counted(self._steps, 'step')}"
        return replace(whole, label=label, elapsed_s=time.monotonic() - self._began)

    def end(self, counts: Progress, *, is_over: bool) -> None:
        """Note the counts of a step that has ended and of those before it, and whether none follows."""
        self._ended, self._is_closed = replace(counts, in_flight=0, rows_per_s=0.0, reserved_usd=0.0), is_over

    def _next(self, *, is_last: bool) -> Display | None:
        self._steps += 1
        if self._display is None:
            shown = new_display() if self._shown else None
            self._display = None if shown is None else SafeDisplay(shown)
        return None if self._display is None else _Step(self, self._display, self._ended, is_last)


class _Step:
    """The display of one step, as its run knows it."""

    def __init__(self, steps: StepsDisplay, display: SafeDisplay, before: Progress | None, is_last: bool) -> None:
        self._steps, self._display, self._before, self._is_last = steps, display, before, is_last

    @property
    def stays(self) -> bool:
        return self._display.stays

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show that the step begins."""
        self._display.open(self._steps.whole(self._before, progress), cancel)

    def update(self, progress: Progress) -> None:
        """Show all steps as they are now."""
        self._display.update(self._steps.whole(self._before, progress))

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Show the end, where no further step comes; a step's failures are sent again by the cell."""
        whole, is_over = self._steps.whole(self._before, progress), self._is_last or progress.state != "done"
        if is_over:
            self._display.close(whole, None)
        self._steps.end(whole, is_over=is_over)
