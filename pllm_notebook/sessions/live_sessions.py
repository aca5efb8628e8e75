"""The open sessions of this process, by directory: an unpickled reply finds its session here."""

from __future__ import annotations

import weakref
from typing import Protocol

from pllm_notebook.runtime import Slot
from pllm_notebook.sessions.call import Call
from pllm_notebook.sessions.llm_response import LLMResponse

__all__ = ["LiveSession", "live_session", "register_session"]


class LiveSession(Protocol):
    """The part of an open session that unpickled replies use."""

    directory: str

    @property
    def is_open(self) -> bool:
        """Whether the session's block has not ended."""

    def reply_to(self, call: Call) -> LLMResponse:
        """Return the lazy reply to a call. Sends nothing."""


_SESSIONS: Slot[weakref.WeakValueDictionary[str, LiveSession]] = Slot("sessions", weakref.WeakValueDictionary)


def register_session(session: LiveSession) -> None:
    """Make *session* the session of unpickled replies of its directory."""
    _SESSIONS.value[session.directory] = session


def live_session(directory: str) -> LiveSession | None:
    """Return this process's newest session in a directory, None if there is none or its block has ended."""
    session = _SESSIONS.value.get(directory)
    return session if session is not None and session.is_open else None
