"""The simulator's process, controlled from the program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pllm_notebook.exceptions import PllmError
from pllm_notebook.sim.channel import Channel
from pllm_notebook.threads import DaemonThreads

__all__ = ["Process"]

_START_S = 20.0  # For a cold disk and a busy machine; 0.4 s is typical.
_ANSWER_S = 30.0
_ANSWERS_AT_ONCE = 64


# Environment variables that Python and the system need. No others are passed on: some are API keys, which the server
# does not need.
_NEEDED = ("PATH", "HOME", "LANG", "LC_", "TZ", "TMP", "TEMP", "PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_", "DYLD_",
           "SYSTEMROOT", "COVERAGE_")  # fmt: skip


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_NEEDED)}


class Process:
    """A running server and the threads that communicate with it."""

    def __init__(self, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Start the server and wait until it listens. *ask* answers its requests, on threads of this process."""
        ours, theirs = socket.socketpair()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        with theirs:
            self._popen = subprocess.Popen(
                # By path, so that the package's __init__ (pandas) is not imported. -P keeps this folder's
                # modules from shadowing the standard library.
                [sys.executable, "-P", str(Path(__file__).with_name("__main__.py")), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                # A kernel's interrupt goes to its whole process group, which must not include the server.
                start_new_session=True,
            )
        self._channel = Channel(ours)
        self._ask = ask
        self._lock = threading.Lock()
        self._waiting: dict[int, _Waiter] = {}
        self._count = 0
        self._ended = False
        self._workers = DaemonThreads("pllm-sim-answers", _ANSWERS_AT_ONCE)
        ready = self._waiting[0] = _Waiter()
        threading.Thread(target=self._receive, name="pllm-sim", daemon=True).start()
        if not ready.event.wait(_START_S) or ready.reply is None:
            words = self._last_words()
            self.close()
            raise PllmError(f"The simulator did not start. {words}")
        self.port: int = ready.reply["port"]

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the server still accepts calls."""
        return not self._ended

    def call(self, op: str, **also: Any) -> Any:
        """Call the server and return its reply.

        Raises:
            PllmError: If the server has ended or does not reply.
        """
        waiter = _Waiter()
        with self._lock:
            if self._ended:
                raise PllmError(f"The simulator has ended. {self._last_words()}")
            self._count += 1
            number = self._count
            self._waiting[number] = waiter
        try:
            self._channel.send({"op": op, "id": number, **also})
            arrived = waiter.event.wait(_ANSWER_S)
        except OSError:
            arrived = False
        finally:
            self._waiting.pop(number, None)
        if not arrived or waiter.reply is None:
            raise PllmError(f"The simulator does not reply. {self._last_words()}")
        return waiter.reply["reply"]

    def close(self) -> None:
        """End the process and wait for its exit."""
        self._channel.close()
        try:
            self._popen.wait(2.0)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._workers.shutdown(wait=False)
        self._errors.close()

    def forget(self) -> None:
        """Release the server without ending it. For a forked child of the program."""
        self._channel.forget()
        self._ended = True
        # Otherwise Popen would warn and poll for a process that is not a child of this one.
        self._popen.returncode = 0

    def _receive(self) -> None:
        while (message := self._channel.receive()) is not None:
            if message["op"] == "ask":
                # Refused when this is closed, or when the interpreter ends: nothing waits for the answer then.
                with suppress(RuntimeError):
                    self._workers.submit(self._answer, message)
            elif (waiter := self._waiting.pop(message["id"], None)) is not None:
                waiter.reply = message
                waiter.event.set()
        with self._lock:
            self._ended = True
            waiting = list(self._waiting.values())
        for waiter in waiting:
            waiter.event.set()

    def _answer(self, message: dict[str, Any]) -> None:
        reply = self._ask(message["request"])
        # If the server has ended, nothing waits for this answer.
        with suppress(OSError):
            self._channel.send({"op": "answer", "id": message["id"], **reply})

    def _last_words(self) -> str:
        try:
            size = os.fstat(self._errors.fileno()).st_size
            words = os.pread(self._errors.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").strip()
        except (OSError, ValueError):
            words = ""
        return f"Its last words: {words}" if words else "It left no message."


class _Waiter:
    __slots__ = ("event", "reply")

    def __init__(self) -> None:
        self.event = threading.Event()
        self.reply: dict[str, Any] | None = None
