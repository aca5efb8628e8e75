"""One display for many runs, which go at once or follow one another: the sum of what they have done."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, Protocol

from pllm_notebook.display_registry import SafeDisplay, new_display
from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.execution.stop import State
from pllm_notebook.formatting import counted
from pllm_notebook.protocols import Display
from pllm_notebook.types import Progress

__all__ = ["RunSum", "StepsDisplay", "Stoppable", "WindowProgress", "sum_of"]


class Stoppable(Protocol):
    """What the display's Stop button stops."""

    def stop(self) -> None:
        """Stop it. From any thread."""


# Counts that add up; the rest is the latest run's, or the whole's own.
_SUMMED = (
    "total", "done", "cached", "failed", "skipped", "in_flight", "rows_per_s", "input_tokens", "output_tokens",
    "cached_tokens", "not_sent", "maybe_paid_requests", "maybe_paid_usd",
)  # fmt: skip


# What follows a model's name, such as its effort and tier, has commas too.
_MODELS = re.compile(r", (?![^()]*\))")


def sum_of(first: Progress, second: Progress) -> Progress:
    """Return what two runs have done together; label and news are those of the second.

    So are the ceiling and what is reserved below it: runs that are shown together share their money. A call that one
    of them sent, and the other waited for too, was paid once.
    """
    summed = {name: getattr(first, name) + getattr(second, name) for name in _SUMMED}
    costs = [None if one.cost_usd is None else one.cost_usd - one.joined_usd for one in (first, second)]
    cost = None if None in costs else max(0.0, sum(one for one in costs if one is not None))
    models = ", ".join(dict.fromkeys(name for one in (first, second) for name in _MODELS.split(one.model)))
    return replace(
        second,
        model=models,
        cost_usd=cost,
        joined_usd=0.0,
        simulated=first.simulated or second.simulated,
        eta_s=None,
        **summed,
    )


def _at_end(counts: Progress) -> Progress:
    """Return the counts of a run that has ended, to be summed up: nothing of it goes on."""
    return replace(counts, in_flight=0, rows_per_s=0.0, reserved_usd=0.0)


class RunSum:
    """What many runs have done together: those that have ended as one sum, and those that go.

    Attributes:
        ended: The counts of those that have ended; None before the first.
    """

    def __init__(self) -> None:
        self.ended: Progress | None = None

    def add(self, counts: Progress) -> None:
        """Count a run that has ended."""
        counts = _at_end(counts)
        self.ended = counts if self.ended is None else sum_of(self.ended, counts)

    def including(self, going: Iterable[LiveRun]) -> Progress | None:
        """Return the counts of all runs, with the news of each that goes; None before the first."""
        whole, news = self.ended, dict[str, None]()
        for run in going:
            counts = run.progress()
            if counts.note:
                news[counts.note] = None
            whole = counts if whole is None else sum_of(whole, counts)
        return replace(whole, note="; ".join(news)) if whole is not None and news else whole


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
        self._sum = RunSum()
        self._began = time.monotonic()

    @property
    def stays(self) -> bool:
        """Whether the display's last line says how it ended."""
        return self._display is not None and self._display.stays

    @property
    def failed(self) -> int:
        """Failed rows of the runs that have ended."""
        return 0 if self._sum.ended is None else self._sum.ended.failed

    def open(self, stoppable: Stoppable, run: LiveRun) -> None:
        """Open the display with the first run."""
        if self._display is None:
            self._display = SafeDisplay(new_display() if self._shown else None)
            if (counts := self.whole([run])) is not None:
                self._display.open(counts, stoppable.stop)

    def update(self, going: Sequence[LiveRun]) -> None:
        """Show the counts of this moment."""
        if self._display is not None and (counts := self.whole(going)) is not None:
            self._display.update(counts)

    def add(self, counts: Progress) -> None:
        """Count a run that has ended."""
        self._sum.add(counts)

    def close(self, going: Sequence[LiveRun], state: Literal["done", "cancelled", "failed"]) -> None:
        """Show the end; nothing where it was shown before."""
        if self._display is None or self._is_closed:
            return
        if (counts := self.whole(going, state)) is not None:
            self._is_closed = True
            self._display.close(counts, None)

    def whole(self, going: Sequence[LiveRun] = (), state: State = "running") -> Progress | None:
        """Return the counts of all runs, None before the first."""
        counts = self._sum.including(going)
        if counts is None:
            return None
        return replace(counts, label=self._label, state=state, elapsed_s=time.monotonic() - self._began, eta_s=None)


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
        self._ended, self._is_closed = _at_end(counts), is_over

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
