"""The `with` block of a session: how it ends, and the state written and shown at its end."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Literal, Self

from pllm_notebook.exceptions import PllmError, UsageError, show_in_one_line
from pllm_notebook.sessions.dashboard import Dashboard, SessionStatus
from pllm_notebook.sessions.paused import Paused, Summary
from pllm_notebook.sessions.session_call import STOPPED_LINE

__all__ = ["SessionContext"]

logger = logging.getLogger("pllm_notebook")


class SessionContext(ABC):
    """A context manager for `with` and `async with` that ends quietly on a pause.

    Attributes:
        directory: The session's directory.
        summary: Why the block ended early, None if it did not.
    """

    def __init__(self, directory: str, log_level: int | str | None) -> None:
        self.directory = directory
        self.summary: Summary | None = None
        self._state: Literal["running", "done", "paused", "failed"] = "running"
        self._began = time.monotonic()
        self._log_level = log_level
        self._level_before: int | None = None
        self._dashboard: Dashboard | None = None

    @property
    def is_open(self) -> bool:
        """Whether the block has not ended."""
        return self._state == "running"

    @abstractmethod
    def status(self) -> SessionStatus:
        """Return the session's status, as its dashboard shows it."""

    def standing(self) -> SessionStatus:
        """Return `status()`. This is its former name, to be removed in the next release."""
        return self.status()

    @abstractmethod
    def persist(self) -> None:
        """Write the state that the next run of the program needs."""

    @abstractmethod
    def _finish(self) -> None:
        """Complete the remaining calls. Raise `Paused` if some of them are pending."""

    @abstractmethod
    def _drain(self) -> None:
        """Wait for live calls in flight."""

    @abstractmethod
    def _stop(self) -> None:
        """Send nothing more."""

    def dashboard(self) -> None:
        """Show the session until its block ends."""
        if self._dashboard is None:
            self._dashboard = Dashboard(self.status)
        self._dashboard.open()

    def print(self, *values: Any) -> None:
        """Print, above the dashboard if it is shown."""
        text = " ".join(map(str, values))
        if self._dashboard is None:
            print(text)
        else:
            self._dashboard.write(text)

    def __enter__(self) -> Self:
        self._check_open()
        if self._log_level is not None:
            self._level_before = logger.level
            logger.setLevel(self._log_level)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            if error is None:
                self._finish()
                self._state = "done"
            elif (paused := self._own_pause(error)) is not None:
                self._pause(paused)
            else:
                self._state = "failed"
                self._stop()
                if isinstance(error, asyncio.CancelledError):
                    show_in_one_line(error, STOPPED_LINE)
        except Paused as paused:
            self._pause(paused)
        except BaseException:
            self._state = "failed"
            self._stop()
            raise
        finally:
            self._leave()
        return self._state == "paused"

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self.__exit__(kind, error, traceback)

    def _check_open(self) -> None:
        """Refuse new calls once the block has ended: nothing would complete or store them."""
        if not self.is_open:
            raise UsageError(
                f"The block of this session has ended, so no more calls can be made in it. Open {self.directory} "
                f"again: with pllm.resume_directory(…) as session. Nothing was sent."
            )

    def _own_pause(self, error: BaseException) -> Paused | None:
        """Return *error* if it is a pause of this session, else None. The tasks of a group pause together."""
        if isinstance(error, BaseExceptionGroup):
            found = [self._own_pause(each) for each in error.exceptions]
            return None if None in found else found[-1]
        return error if isinstance(error, Paused) and error.summary.directory == self.directory else None

    def _pause(self, paused: Paused) -> None:
        self._state, self.summary = "paused", paused.summary
        self._drain()

    def _leave(self) -> None:
        if self._level_before is not None:
            logger.setLevel(self._level_before)
        if self._dashboard is not None:
            self._dashboard.close()
        if self.summary is not None:
            print(self.summary)
        try:
            self.persist()
        except PllmError as error:
            if self._state != "failed":
                raise
            logger.warning("%s", error)  # the program's own exception takes precedence
