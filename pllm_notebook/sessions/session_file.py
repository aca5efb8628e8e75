"""What a session must remember from one run of its program to the next, besides answers, jobs and failures."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

from pllm_notebook.exceptions import StoreError
from pllm_notebook.sessions.session_files import lock_directory, write_atomic

__all__ = ["FILE", "SessionFile"]

FILE = "session.json"

_VERSION = 1

logger = logging.getLogger("pllm_notebook")


class SessionFile:
    """The file `session.json` of a directory.

    It holds notes alone: with a file that is lost or damaged no answer is, and none is paid for again. Sessions that
    go on at once in one directory, here or in other processes, each write what they changed, and keep what the others
    wrote.

    Args:
        directory: That is there.

    Attributes:
        metadata: The session's notes, as they were read.
        agents: The agents' notes, by name.
        refresh_since: When an asking-anew began that has not been gone through to its end, in seconds since the epoch;
            None for none.
        sessions: How many sessions have begun in the directory, this one among them.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, FILE)
        read = self._read()
        self.metadata = _mapping(read.get("metadata"))
        self.agents = {
            name: _mapping(_mapping(agent).get("metadata")) for name, agent in _mapping(read.get("agents")).items()
        }
        begun = read.get("sessions")
        self.sessions = (begun if isinstance(begun, int) else 0) + 1
        since = read.get("anew_since")
        self.refresh_since: float | None = float(since) if isinstance(since, int | float) else None
        # As this session last knew them: what differs from it is what the session itself has changed.
        self._known = _copy({"metadata": self.metadata, "agents": self.agents})

    def begin(self) -> None:
        """Count a session that begins; each of several processes gets a number of its own."""
        with suppress(StoreError), lock_directory(self._path):  # a directory that can only be read keeps no count
            there = self._read()
            begun = there.get("sessions")
            self.sessions = (begun if isinstance(begun, int) else 0) + 1
            whole = {"version": _VERSION, **there, "sessions": self.sessions}
            write_atomic(self._path, orjson.dumps(whole, option=orjson.OPT_INDENT_2))

    def write(self, metadata: Mapping[str, Any], agents: Mapping[str, Mapping[str, Any]]) -> None:
        """Write all of it, at once or not at all.

        Args:
            metadata: The session's notes.
            agents: Of each agent that was met: how many calls it asked, and its notes.

        Raises:
            StoreError: If it cannot be written; what was there before is there still.
        """
        with lock_directory(self._path):
            there = self._read()
            # Those of agents that this run of the program does not meet are kept as they are.
            kept = _mapping(there.get("agents"))
            for name, agent in agents.items():
                before = _mapping(_mapping(kept.get(name)).get("metadata"))
                notes = _merged(before, self._known["agents"].get(name, {}), agent["metadata"])
                kept[name] = {**agent, "metadata": notes}
            whole = {
                "version": _VERSION,
                "metadata": _merged(_mapping(there.get("metadata")), self._known["metadata"], metadata),
                "agents": kept,
                "anew_since": self.refresh_since,
                "sessions": max(self.sessions, there["sessions"] if isinstance(there.get("sessions"), int) else 0),
            }
            content = orjson.dumps(whole, option=orjson.OPT_INDENT_2)
            if content != self._content():
                write_atomic(self._path, content)
        met = {name: agent["metadata"] for name, agent in agents.items()}
        self._known = _copy({"metadata": metadata, "agents": self._known["agents"] | met})

    def _content(self) -> bytes | None:
        """Return what stands in the file, None where there is none."""
        try:
            with open(self._path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _read(self) -> dict[str, Any]:
        try:
            content = self._content()
            if content is None:
                return {}
            read = orjson.loads(content)
        except (OSError, ValueError):
            read = None
        if isinstance(read, dict) and read.get("version") == _VERSION:
            return read
        aside = f"{self._path}.damaged"
        with suppress(OSError):
            os.replace(self._path, aside)
        logger.warning("The notes in %s cannot be read, and are begun anew; they are now %s.", self._path, aside)
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _merged(there: Mapping[str, Any], known: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notes that are *there*, with what a session has changed since it knew them."""
    gone = [name for name in known if name not in now]
    changed = {name: value for name, value in now.items() if name not in known or known[name] != value}
    return {name: value for name, value in there.items() if name not in gone} | changed


def _copy(notes: dict[str, Any]) -> dict[str, Any]:
    """Copy notes; a list inside may be changed by the program."""
    copied: dict[str, Any] = orjson.loads(orjson.dumps(notes))
    return copied
