"""What providers' prompt caches have in common: how long they keep a prefix, and which were sent lately.

A cache keeps the beginning that requests share, and charges a tenth of the price (or so) for reading it
again. A prefix below the minimum is not kept, and nothing says so; where a model's minimum is unknown
the largest one known is used, since a mark or a wait below the minimum would be for nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

__all__ = [
    "BYTES_PER_TOKEN",
    "LEAST_LEAD",
    "LIFETIME_S",
    "OUR_KEYS",
    "Askers",
    "askers",
    "kept_for_an_hour",
]

# English text runs to about four bytes a token.
BYTES_PER_TOKEN = 4

# Anthropic's, from the last use (platform.claude.com/docs/en/build-with-claude/prompt-caching); OpenAI's is
# 5 to 10 minutes (developers.openai.com/api/docs/guides/prompt-caching), Google gives no number.
LIFETIME_S = 300.0

# Characters; a shorter beginning of the prompts is not worth a block of its own.
LEAST_LEAD = 1024

# How the names that we give to prefixes begin, so that they can be told from a caller's own.
OUR_KEYS = "pllm-"


class Askers:
    """Which prefixes were asked with lately, and by how many: the next list, too, may begin as the last one did.

    From any thread.
    """

    _MOST = 10_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Who asked last, when, and whether somebody else had before.
        self._seen: dict[object, tuple[int, float, bool]] = {}

    def __repr__(self) -> str:
        return f"Askers(prefixes={len(self._seen)})"

    def another(self, prefix: object, asker: int, *, note: bool = True) -> bool:
        """Return whether another one has asked with *prefix*, while it was kept, and note that *asker* does.

        Args:
            prefix: What requests begin with.
            asker: Tells questions apart.
            note: False where the request is only shown.
        """
        now = time.monotonic()
        with self._lock:
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

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._seen.clear()


askers = Askers()
"""Of this process, as providers' caches outlive a run."""


def kept_for_an_hour(fields: Any) -> bool:
    """Return whether a caller's own fields have a mark of Anthropic's in them that keeps a prefix for an hour.

    Args:
        fields: As they go into the body; a mark may stand at any depth of it.
    """
    if isinstance(fields, Mapping):
        mark = fields.get("cache_control")
        return (isinstance(mark, Mapping) and mark.get("ttl") == "1h") or any(map(kept_for_an_hour, fields.values()))
    return isinstance(fields, (list, tuple)) and any(map(kept_for_an_hour, fields))
