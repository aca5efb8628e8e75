"""Progress on stderr: a bar in a terminal, occasional lines if stderr is a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from pllm_notebook.formatting import format_duration, format_usd, strip_control_chars
from pllm_notebook.notebook import progress_format
from pllm_notebook.types import Progress

__all__ = ["TerminalSink"]

# A log should have an occasional line for a long run, and none for a short one.
_LINE_EVERY_S = 10.0

# Width of tqdm's bar without title and postfix: percentage, a short bar, counts, times, rate.
_BAR_COLUMNS = 64


class TerminalSink:
    """A tqdm bar while the run is active, then one final line.

    Args:
        stream: Output stream, None for stderr.
        every_s: Seconds between lines if the stream is not a terminal.
    """

    stays = False  # in a script, warnings may be errors, and stderr may be unread

    def __init__(self, stream: Any = None, every_s: float = _LINE_EVERY_S) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._every_s = every_s
        self._next = 0.0
        self._bar: Any = None
        self._title = ""

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the start of a run. A later step of the same run adds its rows to the existing bar."""
        if self._bar is not None:
            return
        self._next = time.monotonic() + self._every_s
        if self._stream.isatty():
            from tqdm import tqdm

            self._title = strip_control_chars(f"{progress.label} {progress_format.model(progress)}")
            self._bar = tqdm(
                total=progress.total,
                initial=progress.total - progress.pending,
                desc=self._title,
                unit=progress.unit,
                file=self._stream,
                dynamic_ncols=True,
                leave=False,
                # Updates are timed by the caller, slowly enough for a terminal.
                miniters=0,
                mininterval=0,
            )

    def update(self, progress: Progress) -> None:
        """Show the current state of the run."""
        if self._bar is not None:
            self._bar.total = progress.total
            self._bar.n = progress.total - progress.pending
            failed = f"{progress.failed:,} failed" if progress.failed else ""
            parts = [failed, *progress_format.spent(progress), progress.note]
            postfix = strip_control_chars(" · ".join(part for part in parts if part))
            columns = _columns_of(self._stream)
            has_room = columns is None or len(self._title) + len(postfix) + _BAR_COLUMNS <= columns
            self._bar.bar_format = None if has_room else "{desc}"
            self._bar.desc = f"{self._title}: " if has_room else _narrow(progress, columns or 0)
            self._bar.set_postfix_str(postfix)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every_s
            self._write(progress_format.step(progress))

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Print the final line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._write(progress_format.ended(progress))

    def _write(self, line: str) -> None:
        line = strip_control_chars(line)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        # A console that cannot encode "✓" gets "?" instead of a traceback.
        self._stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
        self._stream.flush()


def _columns_of(stream: Any) -> int | None:
    """Return the width of a terminal, None if unknown."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _narrow(progress: Progress, columns: int) -> str:
    """Return a line for a terminal too narrow for a bar: counts and cost first, then the parts that fit."""
    p = progress
    line = f"{p.total - p.pending:,}/{p.total:,} · {format_usd(p.cost_usd)}"
    more = [
        "" if p.budget_usd is None else f"of {format_usd(p.budget_usd)}",
        "SIMULATED" if p.simulated else "",
        f"{p.failed:,} failed" if p.failed else "",
        "" if p.eta_s is None else f"{format_duration(p.eta_s)} left",
        p.note,
        p.model,
    ]
    for part in filter(None, map(strip_control_chars, more)):
        longer = f"{line}{' ' if part.startswith('of $') else ' · '}{part}"
        if len(longer) < columns:
            line = longer
    return line
