"""Parsers for the fields that every provider's batch jobs have: states, times, counts, errors."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any, Literal

from pllm_notebook.redaction import redact
from pllm_notebook.runtime import is_first_time

__all__ = ["RUNNING", "State", "join_errors", "parse_int", "parse_time", "state_of"]

State = Literal["running", "ended", "failed", "expired", "cancelled"]
RUNNING: State = "running"

logger = logging.getLogger("pllm_notebook")


def state_of(word: str, states: Mapping[str, State], provider: str) -> State:
    """Return the state for a provider's word; an unknown one counts as running and is logged once."""
    state = states.get(word)
    if state is None:
        if is_first_time("job state", provider, word):
            logger.warning("%s reports a batch job as %r, which is unknown here; it counts as running", provider, word)
        return RUNNING
    return state


def parse_time(text: Any) -> float:
    """Parse an RFC 3339 time as seconds since the epoch; return 0.0 if there is no valid time."""
    try:
        return dt.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def parse_int(number: Any) -> int | None:
    """Parse a count, which Google sends as text; return None if there is no valid count."""
    try:
        return int(number)
    except (TypeError, ValueError):
        return None


def join_errors(*errors: Any) -> str:
    """Return a job's first 20 errors as one redacted line of at most 2,000 characters."""
    messages = [str(error.get("message") or error.get("code") or "") for error in errors if isinstance(error, dict)]
    return redact("; ".join(dict.fromkeys(message for message in messages[:20] if message)))[:2000]
