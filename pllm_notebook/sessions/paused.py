"""The quiet end of a program that waits for a batch: what is raised inside, and what a person reads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from pllm_notebook.escaping import escape_html, strip_control_chars
from pllm_notebook.execution import Estimate
from pllm_notebook.formatting import format_usd

__all__ = ["Paused", "Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Why a program stopped where it did, and how it goes on.

    Attributes:
        directory: Of the session.
        submitted: Calls that were submitted by this run of the program.
        jobs: Batch jobs that they went in.
        cost_usd: What those are expected to cost, None for unknown.
        awaited: Calls that the program waits for now, those included.
        awaited_jobs: Batch jobs that these are in.
        estimate: Of a dry run: what would have been sent. None for a run that is not dry.
        simulated: Whether the answers are invented.
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
        """Return it as a person reads it, a line at a time."""
        where = strip_control_chars(self.directory) + (" SIMULATED" if self.simulated else "")
        if self.estimate is not None:
            told = "A dry run ends here: this would be asked next. Nothing was sent."
            return [f"{where}: {told}", *repr(self.estimate).splitlines()]
        parts = []
        if self.submitted:
            jobs = _many(self.jobs, "batch job")
            parts.append(f"submitted {_many(self.submitted, 'call')} in {jobs} ({self._price()})")
        parts.append(f"awaiting {_many(self.awaited, 'call')} in {_many(self.awaited_jobs, 'batch job')}")
        return [f"{where}: {'; '.join(parts)}.", "Run the program again to go on from here."]

    def _price(self) -> str:
        return "an unknown price" if self.cost_usd is None else f"about {format_usd(self.cost_usd)}"


class Paused(BaseException):
    """Ends the block of a session at a value that is not there yet; the session lets nobody see it.

    No `Exception`, so that a program's own `except Exception` does not take a pause for a failure; `finally` and
    context managers do their work.

    Attributes:
        summary: What is awaited.
    """

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        super().__init__("\n".join(summary.lines()))
        _hooks.install()

    def _render_traceback_(self) -> list[str]:
        # Where the program has no `with session:` around it, this is all that a notebook shows.
        return list(self.summary.lines())


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _paused_in(error: BaseException | None) -> Paused | None:
    """Return the pause that an error is; tasks of a group pause together."""
    if isinstance(error, BaseExceptionGroup):
        found = [_paused_in(each) for each in error.exceptions]
        return None if None in found else found[-1]
    return error if isinstance(error, Paused) else None


class _Hooks:
    """What a pause that no `with session:` takes comes to in a script: its summary, and exit code 0."""

    def __init__(self) -> None:
        self._installed = False

    def install(self) -> None:
        """Take the place of Python's hooks for uncaught exceptions, once; all others go on to those."""
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
            if not hasattr(sys, "ps1"):  # a prompt goes on
                raise SystemExit(0)  # what a hook raises is how Python ends

        def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
            paused = _paused_in(args.exc_value)
            if paused is None:
                in_thread(args)
            else:
                print(paused.summary)

        sys.excepthook, threading.excepthook = uncaught, uncaught_in_thread


_hooks = _Hooks()
