"""The displays of one run: the one in the cell that started it, and those opened later elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pllm_notebook.display_registry import SafeDisplay
from pllm_notebook.engine import Engine
from pllm_notebook.execution.execute import Execution
from pllm_notebook.protocols import Display
from pllm_notebook.threads import weak_callback
from pllm_notebook.types import Progress

__all__ = ["RunDisplays"]


class ShownRun(Protocol):
    """The parts of a run that displays use (see `Run`)."""

    execution: Execution

    def progress(self) -> Progress:
        """Return the current counts."""

    def done(self) -> bool:
        """Return whether it has ended."""

    def cancel(self) -> None:
        """Stop it."""

    def retry(self) -> Any:
        """Send failed rows again."""


@dataclass(eq=False, slots=True)
class RunDisplays:
    """All displays of one run. A display that fails is no longer used; the others continue.

    Attributes:
        all: The displays, in the order in which they were added. The tuple is replaced, since other threads read it.
    """

    all: tuple[SafeDisplay, ...]

    @property
    def stays(self) -> bool:
        """Whether the last line of any display stays in view, so that no warning has to repeat it."""
        return any(display.stays for display in self.all)

    def add(self, display: Display) -> None:
        """Add a display before the run starts."""
        self.all = (*self.all, SafeDisplay(display))

    def attach(self, display: Display, run: ShownRun, engine: Engine) -> None:
        """Show *run* in one more display. Callable from any thread except the loop's."""
        shown = SafeDisplay(display)
        shown.open(run.progress(), weak_callback(run.cancel))
        if run.done() or not engine.loop.alive:
            self._add(shown, run)
        else:
            engine.loop.call(self._add, shown, run)

    def open(self, run: ShownRun) -> None:
        """Show the start of the run, or of a retry."""
        for display in self.all:
            display.open(run.progress(), weak_callback(run.cancel))

    def update(self, progress: Progress) -> None:
        """Show the current counts."""
        for display in self.all:
            display.update(progress)

    def close(self, run: ShownRun) -> None:
        """Show the end of the run."""
        for display in self.all:
            display.close(run.progress(), _retry_of(run))

    def _add(self, shown: SafeDisplay, run: ShownRun) -> None:
        self.all = (*self.all, shown)
        if run.done():
            shown.close(run.progress(), _retry_of(run))


def _retry_of(run: ShownRun) -> Callable[[], object] | None:
    can_retry = not run.execution.broken and run.execution.retryable(None)
    return weak_callback(run.retry) if can_retry else None
