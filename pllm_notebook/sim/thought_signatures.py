"""How providers sign what a model thought before it called tools: without state, so that any simulator can check it."""

from __future__ import annotations

import base64
import hashlib
import re

__all__ = ["answer_of", "signature"]

# An answer's number, and the call's place in it.
_CALL = re.compile(r"([0-9a-f]{24})\d+")


def signature(number: str) -> str:
    """Sign the thoughts of the answer with this number."""
    return base64.b64encode(hashlib.sha256(f"signed {number}".encode()).digest()).decode()


def answer_of(call: str, mark: str) -> str:
    """Return the number of the answer in which a call was made, "" for a call of somebody else's.

    Args:
        call: Its id.
        mark: What the provider's ids begin with.
    """
    found = _CALL.fullmatch(call.removeprefix(mark)) if call.startswith(mark) else None
    return found.group(1) if found else ""
