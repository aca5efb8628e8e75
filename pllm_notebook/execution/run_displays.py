"""The displays of one run: that of the cell that started it, and those that a person opened elsewhere since."""

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
    """A run, as displays need it (see `Run`)."""

    execution: Execution

    def progress(self) -> Progress:
        """Return the counts of this moment."""

    def done(self) -> bool:
        """Return whether it has ended."""

    def cancel(self) -> None:
        """Stop it."""

    def retry(self) -> Any:
        """Send failed rows again."""


@dataclass(eq=False, slots=True)
class RunDisplays:
    """Every display shows the same run; a broken one is left alone, and the others go on.

    Attributes:
        all: The displays, the first one first. Replaced and never changed, since it is read on another thread.
    """

    all: tuple[SafeDisplay, ...]

    @property
    def stays(self) -> bool:
        """Whether the last line of one stays in view, so that no warning repeats it."""
        return any(display.stays for display in self.all)

    def add(self, display: Display) -> None:
        """Add one before the run starts."""
        self.all = (*self.all, SafeDisplay(display))

    def attach(self, display: Display, run: ShownRun, engine: Engine) -> None:
        """Show *run* in one more display, from any thread but the loop's."""
        shown = SafeDisplay(display)
        shown.open(run.progress(), weak_callback(run.cancel))
        if run.done() or not engine.loop.alive:
            self._add(shown, run)
        else:
            engine.loop.call(self._add, shown, run)

    def open(self, run: ShownRun) -> None:
        """Show the start, or that the run goes on."""
        for display in self.all:
            display.open(run.progress(), weak_callback(run.cancel))

    def update(self, progress: Progress) -> None:
        """Show the run as it is now."""
        for display in self.all:
            display.update(progress)

    def close(self, run: ShownRun) -> None:
        """Show the end."""
        for display in self.all:
            display.close(run.progress(), _retry_of(run))

    def _add(self, shown: SafeDisplay, run: ShownRun) -> None:
        self.all = (*self.all, shown)
        if run.done():
            shown.close(run.progress(), _retry_of(run))


def _retry_of(run: ShownRun) -> Callable[[], object] | None:
    can_retry = not run.execution.broken and run.execution.retryable(None)
    return weak_callback(run.retry) if can_retry else None
