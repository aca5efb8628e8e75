"""What all providers tell of a job, each in its own words."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any, Literal

from pllm_notebook.redaction import redact

__all__ = ["RUNNING", "State", "join_errors", "parse_int", "parse_time", "state_of"]

State = Literal["running", "ended", "failed", "expired", "cancelled"]
RUNNING: State = "running"

logger = logging.getLogger("pllm_notebook")
_strange: set[str] = set()


def state_of(word: str, states: Mapping[str, State], provider: str) -> State:
    """Look a provider's word up; one that it has added since counts as running, and is logged once."""
    state = states.get(word)
    if state is None:
        if f"{provider}:{word}" not in _strange:
            _strange.add(f"{provider}:{word}")
            logger.warning(
                "%s says that a batch job is %r, which is not known here; it counts as running", provider, word
            )
        return RUNNING
    return state


def parse_time(text: Any) -> float:
    """Read an RFC 3339 time as seconds since the epoch; 0.0 where there is none."""
    try:
        return dt.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def parse_int(number: Any) -> int | None:
    """Read a count, which Google writes as text; None where there is none."""
    try:
        return int(number)
    except (TypeError, ValueError):
        return None


def join_errors(*errors: Any) -> str:
    """Put a failed job's errors into one line without keys; only the first few of many."""
    messages = [str(error.get("message") or error.get("code") or "") for error in errors if isinstance(error, dict)]
    return redact("; ".join(dict.fromkeys(message for message in messages[:20] if message)))[:2000]
