"""A session in a terminal: a few lines at the bottom, below the program's output."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

from pllm_notebook.formatting import strip_control_chars
from pllm_notebook.notebook import session_format
from pllm_notebook.sessions import SessionStatus

__all__ = ["TerminalSessionDisplay"]

# A log should have an occasional line for a long session, and none for a short one.
_LINE_EVERY_S = 10.0
_UP_AND_CLEAR = "\x1b[{lines}A\x1b[J"


class TerminalSessionDisplay:
    """The lines of a session on stderr. The program's output goes to stdout, above them.

    Args:
        stream: Stream for the lines, None for stderr.
        said: Stream for the program's output, None for stdout.
        every_s: Seconds between lines if the stream is not a terminal.
    """

    def __init__(self, stream: Any = None, said: Any = None, every_s: float = _LINE_EVERY_S) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._said = said
        self._every_s = every_s
        self._next = 0.0
        # Lines currently on the screen, which can be erased.
        self._drawn: list[str] = []

    def open(self, status: SessionStatus) -> None:
        """Show the initial status."""
        self._next = time.monotonic() + self._every_s
        self.update(status)

    def update(self, status: SessionStatus) -> None:
        """Show the current status."""
        lines = self._fitted(status)
        if self._stream.isatty():
            if lines != self._drawn:
                self._erase()
                self._draw(lines)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every_s
            self._put("\n".join(lines) + "\n")

    def write(self, text: str) -> None:
        """Print the program's output above the lines."""
        lines = self._drawn
        self._erase()
        # stdout is looked up on each call: a program may have redirected it.
        print(text, file=self._said, flush=True)
        self._draw(lines)

    def close(self, status: SessionStatus) -> None:
        """Print the final lines."""
        self._erase()
        self._put("\n".join(session_format.lines(status)) + "\n")

    def _fitted(self, status: SessionStatus) -> list[str]:
        """Return the lines, cut to the width and height of the screen: a line that wraps could not be erased."""
        size = shutil.get_terminal_size()
        lines = [strip_control_chars(line) for line in session_format.lines(status)][: max(1, size.lines - 2)]
        if not self._stream.isatty():
            return lines
        return [line if len(line) < size.columns else f"{line[: size.columns - 2]}…" for line in lines]

    def _draw(self, lines: list[str]) -> None:
        if lines:
            self._put("\n".join(lines) + "\n")
        self._drawn = lines

    def _erase(self) -> None:
        if self._drawn:
            self._put(_UP_AND_CLEAR.format(lines=len(self._drawn)), clean=False)
            self._drawn = []

    def _put(self, text: str, *, clean: bool = True) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        text = strip_control_chars(text) if clean else text
        # A console that cannot encode "✓" gets "?" instead of a traceback.
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()
