"""The pause of a program at pending batch calls: the exception that ends the block, and the summary shown."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from pllm_notebook.execution import Estimate
from pllm_notebook.formatting import counted, escape_html, format_usd, strip_control_chars
from pllm_notebook.runtime import Slot

__all__ = ["Paused", "Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Why a program paused, and how to continue it.

    Attributes:
        directory: The session's directory.
        submitted: Calls that this run of the program submitted.
        jobs: Number of their batch jobs.
        cost_usd: Expected cost of these jobs, None if unknown.
        awaited: Calls that the program waits for, including the submitted ones.
        awaited_jobs: Number of their batch jobs.
        estimate: In a dry run, the estimate of the calls that it would send. Otherwise None.
        simulated: Whether the answers come from a simulator.
    """

    directory: str
    submitted: int = 0
    jobs: int = 0
    cost_usd: float | None = 0.0
    awaited: int = 0
    awaited_jobs: int = 0
    estimate: Estimate | None = None
    simulated: bool = False

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return f"<pre>{escape_html(repr(self))}</pre>"

    def lines(self) -> Sequence[str]:
        """Return the summary as lines of text."""
        where = strip_control_chars(self.directory) + (" SIMULATED" if self.simulated else "")
        if self.estimate is not None:
            heading = "The dry run ends here, before these calls. Nothing was sent."
            return [f"{where}: {heading}", *repr(self.estimate).splitlines()]
        parts = []
        if self.submitted:
            jobs = counted(self.jobs, "batch job")
            parts.append(f"submitted {counted(self.submitted, 'call')} in {jobs} ({self._price()})")
        parts.append(f"awaiting {counted(self.awaited, 'call')} in {counted(self.awaited_jobs, 'batch job')}")
        return [f"{where}: {'; '.join(parts)}.", "Run the program again to continue."]

    def _price(self) -> str:
        return "an unknown price" if self.cost_usd is None else f"about {format_usd(self.cost_usd)}"


class Paused(BaseException):
    """The exception that ends the block of a session at a pending value. The session catches it.

    It is not an `Exception`, so that a program's own `except Exception` does not treat a pause as a failure. `finally`
    and context managers run as usual.

    Attributes:
        summary: What the program waits for.
    """

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        super().__init__("\n".join(summary.lines()))
        _HOOKS.value.install()

    def _render_traceback_(self) -> list[str]:
        # Without a `with` block around the program, this is all that a notebook shows.
        return list(self.summary.lines())


def _paused_in(error: BaseException | None) -> Paused | None:
    """Return the pause that *error* is or contains, or None. The tasks of a group pause together."""
    if isinstance(error, BaseExceptionGroup):
        found = [_paused_in(each) for each in error.exceptions]
        return None if None in found else found[-1]
    return error if isinstance(error, Paused) else None


class _Hooks:
    """Exception hooks for a pause outside a `with` block in a script: they print the summary and exit with code 0."""

    def __init__(self) -> None:
        self._installed = False

    def install(self) -> None:
        """Wrap Python's hooks for uncaught exceptions, once; other exceptions are passed on."""
        if self._installed:
            return
        self._installed = True
        in_main, in_thread = sys.excepthook, threading.excepthook

        def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            paused = _paused_in(error)
            if paused is None:
                in_main(kind, error, trace)
                return
            print(paused.summary)
            if not hasattr(sys, "ps1"):  # an interactive prompt continues
                raise SystemExit(0)  # the exception of a hook sets Python's exit code

        def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
            paused = _paused_in(args.exc_value)
            if paused is None:
                in_thread(args)
            else:
                print(paused.summary)

        sys.excepthook, threading.excepthook = uncaught, uncaught_in_thread


# Kept across resets: the hooks must not be wrapped twice.
_HOOKS: Slot[_Hooks] = Slot("exception hooks", _Hooks, is_kept=True)
