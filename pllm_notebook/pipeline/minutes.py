"""What a session must remember from one run of its program to the next, besides answers, jobs and failures."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

from pllm_notebook.pipeline.files import write_whole

__all__ = ["FILE", "Minutes"]

FILE = "session.json"

_VERSION = 1

logger = logging.getLogger("pllm_notebook")


class Minutes:
    """The file `session.json` of a directory.

    It holds notes alone: with a file that is lost or damaged no answer is, and none is paid for again.

    Args:
        directory: That is there.

    Attributes:
        metadata: The session's notes, as they were read.
        agents: The agents' notes, by name.
        anew_since: When an asking-anew began that has not been gone through to its end, in seconds since the epoch;
            None for none.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, FILE)
        read = self._read()
        self.metadata = _mapping(read.get("metadata"))
        # Those of agents that this run of the program does not meet are kept as they are.
        self._agents = {name: _mapping(agent) for name, agent in _mapping(read.get("agents")).items()}
        self.agents = {name: _mapping(agent.get("metadata")) for name, agent in self._agents.items()}
        since = read.get("anew_since")
        self.anew_since: float | None = float(since) if isinstance(since, int | float) else None
        self._written = b""

    def write(self, metadata: Mapping[str, Any], agents: Mapping[str, Mapping[str, Any]]) -> None:
        """Write all of it, at once or not at all.

        Args:
            metadata: The session's notes.
            agents: Of each agent that was met: how many calls it asked, and its notes.

        Raises:
            StoreError: If it cannot be written; what was there before is there still.
        """
        self._agents |= {name: dict(agent) for name, agent in agents.items()}
        whole = {
            "version": _VERSION,
            "metadata": metadata,
            "agents": self._agents,
            "anew_since": self.anew_since,
        }
        content = orjson.dumps(whole, option=orjson.OPT_INDENT_2)
        if content != self._written:
            write_whole(self._path, content)
            self._written = content

    def _read(self) -> dict[str, Any]:
        try:
            with open(self._path, "rb") as file:
                read = orjson.loads(file.read())
        except FileNotFoundError:
            return {}
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
