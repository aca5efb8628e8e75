"""Prompt caches of all providers: how long they keep a prefix, and which prefixes were sent recently.

A prompt cache keeps the prefix that requests share; reading it again costs about a tenth of the price. A prefix below
the minimum length is silently not cached, and a mark or a wait for it is useless. So if a model's minimum is unknown,
the largest known one is used.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pllm_notebook.runtime import Locked, Slot

__all__ = [
    "ASKERS",
    "BYTES_PER_TOKEN",
    "LEAST_LEAD",
    "LIFETIME_S",
    "OUR_KEYS",
    "Askers",
    "kept_for_an_hour",
]

# English text runs to about four bytes a token.
BYTES_PER_TOKEN = 4

# Seconds since the last use, at Anthropic (platform.claude.com/docs/en/build-with-claude/prompt-caching). OpenAI keeps
# a prefix for 5 to 10 minutes (developers.openai.com/api/docs/guides/prompt-caching), Google documents no number.
LIFETIME_S = 300.0

# Minimum characters: a shorter shared beginning of the prompts is not worth a block of its own.
LEAST_LEAD = 1024

# Prefix of our own cache keys, to distinguish them from a caller's.
OUR_KEYS = "pllm-"


class Askers(Locked):
    """Prefixes that were sent recently, and the askers that sent them: the next run may share a prefix with the last.

    Thread-safe.
    """

    _MOST = 10_000

    def __init__(self) -> None:
        super().__init__()
        # By prefix: the last asker, the time in seconds, and whether a different asker had sent it before.
        self._seen: dict[object, tuple[int, float, bool]] = {}

    def __repr__(self) -> str:
        return f"Askers(prefixes={len(self._seen)})"

    def another(self, prefix: object, asker: int, *, note: bool = True) -> bool:
        """Return whether another asker sent *prefix* and it is still cached; note that *asker* sends it now.

        Args:
            prefix: Identifies the prefix that requests share.
            asker: Identifies the question.
            note: False if the request is only shown and nothing is to be noted.
        """
        now = time.monotonic()
        with self.lock:
            last, at, again = self._seen.get(prefix, (asker, now, False))
            if now - at >= LIFETIME_S:
                again = False
            elif last != asker:
                again = True
            if not note:
                return again
            if len(self._seen) >= self._MOST:
                self._seen = {name: seen for name, seen in self._seen.items() if now - seen[1] < LIFETIME_S}
            self._seen[prefix] = (asker, now, again)
            return again


ASKERS: Slot[Askers] = Slot("askers", Askers)
"""Process-wide, since providers' caches outlive a run."""


def kept_for_an_hour(fields: Any) -> bool:
    """Return whether the caller's own fields contain one of Anthropic's one-hour cache marks.

    Args:
        fields: Fields as sent in the body; a mark may be at any depth.
    """
    if isinstance(fields, Mapping):
        mark = fields.get("cache_control")
        return (isinstance(mark, Mapping) and mark.get("ttl") == "1h") or any(map(kept_for_an_hour, fields.values()))
    return isinstance(fields, (list, tuple)) and any(map(kept_for_an_hour, fields))
