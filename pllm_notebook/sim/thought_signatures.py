"""Signatures of a model's thoughts before its tool calls. They are stateless, so any simulator can check them."""

from __future__ import annotations

import base64
import hashlib
import re

__all__ = ["answer_of", "signature"]

# The answer's number, followed by the call's position in it.
_CALL = re.compile(r"([0-9a-f]{24})\d+")


def signature(number: str) -> str:
    """Sign the thoughts of the answer with this number."""
    return base64.b64encode(hashlib.sha256(f"signed {number}".encode()).digest()).decode()


def answer_of(call: str, mark: str) -> str:
    """Return the number of the answer that made a call, "" for a call from elsewhere.

    Args:
        call: Id of the call.
        mark: Prefix of the provider's ids.
    """
    found = _CALL.fullmatch(call.removeprefix(mark)) if call.startswith(mark) else None
    return found.group(1) if found else ""
