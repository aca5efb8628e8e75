"""The state that a session keeps between runs of its program, besides answers, jobs and failures."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

from pllm_notebook.exceptions import StoreError
from pllm_notebook.files import set_aside
from pllm_notebook.sessions.session_files import lock_directory, write_atomic

__all__ = ["FILE", "SessionFile"]

FILE = "session.json"

_VERSION = 1

logger = logging.getLogger("pllm_notebook")


class SessionFile:
    """The file `session.json` of a directory.

    It contains only notes: if it is lost or damaged, no answer is lost or paid for again. Concurrent sessions in one
    directory, including those of other processes, each write their own changes and keep those of the others.

    Args:
        directory: An existing directory.

    Attributes:
        metadata: The session's notes, as they were read.
        agents: The agents' notes, by name.
        refresh_since: When the unfinished `ignore_cache` run of the program started, in seconds since the epoch. None
            if there is no such run.
        sessions: Number of sessions of the directory so far, including this one.
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
        # The notes as this session last read or wrote them. The difference is the session's own changes.
        self._known = _copy({"metadata": self.metadata, "agents": self.agents})

    def begin(self, refresh_since: float | None = None) -> None:
        """Count this session. Each of several processes gets its own number.

        Args:
            refresh_since: When the session's refresh started (see the class), None for a session that is none.
        """
        with suppress(StoreError), lock_directory(self._path):  # a read-only directory keeps no count
            there = self._read()
            begun = there.get("sessions")
            self.sessions = (begun if isinstance(begun, int) else 0) + 1
            whole = {"version": _VERSION, **there, "sessions": self.sessions}
            if refresh_since is not None:
                whole["anew_since"] = refresh_since
            write_atomic(self._path, orjson.dumps(whole, option=orjson.OPT_INDENT_2))

    def write(self, metadata: Mapping[str, Any], agents: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the file atomically.

        Args:
            metadata: The session's notes.
            agents: By agent, the number of calls it made and its notes.

        Raises:
            StoreError: If the file cannot be written; an existing file is left unchanged.
        """
        with lock_directory(self._path):
            there = self._read()
            # Notes of agents that this run of the program did not use are kept.
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
        """Return the content of the file, None if it does not exist."""
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
        aside = set_aside(self._path, ".damaged") or self._path
        logger.warning("The notes in %s cannot be read and start empty; the file is now %s.", self._path, aside)
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _merged(there: Mapping[str, Any], known: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notes in the file, *there*, with the session's changes since *known*."""
    gone = [name for name in known if name not in now]
    changed = {name: value for name, value in now.items() if name not in known or known[name] != value}
    return {name: value for name, value in there.items() if name not in gone} | changed


def _copy(notes: dict[str, Any]) -> dict[str, Any]:
    """Copy notes deeply; the program may change a list inside."""
    copied: dict[str, Any] = orjson.loads(orjson.dumps(notes))
    return copied
