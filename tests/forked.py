"""Processes of this machine's own that begin with everything imported: forks of one in which nothing runs.

To import pandas, the SDKs and this package takes longer than what most tests have a process do. A fork is a process as
any other: it can be killed, suspended and interrupted, and shares no thread, no connection and no open file with
another. A test of how a program starts starts a real one.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import queue
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

__all__ = ["Forked", "run_forked"]

ROOT = Path(__file__).parents[1]
_MOST_BYTES = 1_000_000
_MOST_S = 180.0


# What the scripts of these tests import.
_IN_SCRIPTS = ("openai", "pandas", "pllm_notebook.request_files.process_file", "tests.faults.asking")


class Forked:
    """A running program, with the part of `subprocess.Popen` that its driver needs.

    Attributes:
        pid: Its process id, and the id of its group.
        stdin, stdout, stderr: The other ends of its standard streams, in bytes; None where they are not piped.
    """

    def __init__(
        self,
        program: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str | Path = ROOT,
        piped: bool = True,
        python: str = sys.executable,
        imported: Sequence[str] = _IN_SCRIPTS,
    ) -> None:
        """Start a program.

        Args:
            program: "-m" and a module, or "-c" and code, and arguments, as an interpreter takes them.
            env: Its whole environment.
            cwd: Where it runs.
            piped: Whether its streams are read and written here; else it has no input, and this process's output.
            python: The interpreter.
            imported: Modules that are there when it begins.
        """
        self.stdin = self.stdout = self.stderr = None
        if piped:
            theirs, ours = zip(os.pipe(), os.pipe()[::-1], os.pipe()[::-1], strict=True)
            self.stdin = os.fdopen(ours[0], "wb")
            self.stdout, self.stderr = os.fdopen(ours[1], "rb"), os.fdopen(ours[2], "rb")
        else:
            theirs = (os.open(os.devnull, os.O_RDONLY), os.dup(1), os.dup(2))
        job = json.dumps([list(program), dict(env), str(cwd)]).encode()
        self.pid, self._ended = _forker(python, tuple(imported)).start(job, theirs)
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""
        if self._code is None:
            with contextlib.suppress(queue.Empty):
                self._code = self._ended.get_nowait()
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return its exit code."""
        if self._code is None:
            self._code = self._ended.get(timeout=timeout)
        return self._code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # as subprocess has it: it may end between the two
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it with signal 9, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def run_forked(
    *program: str,
    env: Mapping[str, str] | None = None,
    cwd: str | Path = ROOT,
    imported: Sequence[str] = _IN_SCRIPTS,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as `subprocess.run` does; what it writes is text.

    Args:
        program: "-m" and a module, or "-c" and code, and arguments, as an interpreter takes them.
        env: Its whole environment; None for this process's own.
        cwd: Where it runs.
        imported: Modules that are there when it begins.
    """
    child = Forked(program, os.environ if env is None else env, cwd=cwd, imported=imported)
    child.stdin.close()
    with ThreadPoolExecutor(2) as pool, child.stdout, child.stderr:
        said, errors = pool.map(lambda stream: stream.read().decode(), (child.stdout, child.stderr))
    return subprocess.CompletedProcess(program, child.wait(_MOST_S), said, errors)


class _Forker:
    """The process that forks, and what it says of its children."""

    def __init__(self, python: str, imported: Sequence[str]) -> None:
        self._socket, other = socket.socketpair()
        with other:
            words = [python, "-Xfrozen_modules=off", "-m", "tests.forked", str(other.fileno()), *imported]
            self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[other.fileno()])
        self._starting = threading.Lock()
        self._started: queue.SimpleQueue[tuple[int, queue.SimpleQueue[int]]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def start(self, job: bytes, streams: Sequence[int]) -> tuple[int, queue.SimpleQueue[int]]:
        with self._starting:
            socket.send_fds(self._socket, [len(job).to_bytes(4, "big")], streams)
            for stream in streams:
                os.close(stream)
            self._socket.sendall(job)
            return self._started.get(timeout=180)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._process.wait(10)

    def _read(self) -> None:
        ended: dict[int, queue.SimpleQueue[int]] = {}
        with self._socket.makefile("rb") as lines:
            for line in lines:
                pid, code = json.loads(line)
                if code is None:
                    ended[pid] = queue.SimpleQueue()
                    self._started.put((pid, ended[pid]))
                else:
                    ended.pop(pid).put(code)


@functools.cache
def _forker(python: str, imported: tuple[str, ...]) -> _Forker:
    forker = _Forker(python, imported)
    atexit.register(forker.close)
    return forker


def _next_job(parent: socket.socket) -> tuple[list[str], dict[str, str], str] | None:
    """Fork a child for each job; return in a child with its job, and in the parent with None when no more will come."""
    running: set[int] = set()
    woken, wake = socket.socketpair()
    for one in (woken, wake):
        one.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        for one in (parent, woken):
            selector.register(one, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                woken.recv(4096)
                _report_ended(parent, running)
            if parent in ready:
                length, streams, *_ = socket.recv_fds(parent, 4, 3)
                if not length:
                    for pid in running:
                        os.kill(pid, signal.SIGKILL)
                    return None
                job = _exactly(parent, int.from_bytes(length, "big"))
                pid = os.fork()
                if not pid:
                    os.setsid()
                    break
                running.add(pid)
                for stream in streams:
                    os.close(stream)
                _say(parent, pid, None)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for one in (parent, woken, wake):
        one.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    program, env, cwd = json.loads(job)
    return program, env, cwd


def _report_ended(parent: socket.socket, running: set[int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        running.discard(pid)
        _say(parent, pid, os.waitstatus_to_exitcode(status))


def _say(parent: socket.socket, pid: int, code: int | None) -> None:
    parent.sendall(json.dumps([pid, code]).encode() + b"\n")


def _exactly(parent: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += parent.recv(min(length - len(data), _MOST_BYTES))
    return data


def _become(program: list[str], env: dict[str, str], cwd: str) -> None:
    """Run a program as this process's main module."""
    kind, what, *arguments = program
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[:] = [kind, *arguments]
    if kind == "-m":
        sys.modules.pop(what, None)  # it is the main module now
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main: dict[str, Any] = sys.modules["__main__"].__dict__
        for name in [name for name in main if not name.startswith("__")]:
            del main[name]
        exec(compile(what, "<string>", "exec"), main)


if __name__ == "__main__":
    # Nothing that is imported may start a thread or hold a file open.
    for _name in sys.argv[2:]:
        importlib.import_module(_name)
    gc.collect()
    gc.freeze()  # no child looks through what is imported for garbage
    _job = _next_job(socket.socket(fileno=int(sys.argv[1])))
    if _job is not None:
        _become(*_job)
