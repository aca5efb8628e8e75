"""From the bytes of a response to a reply: the one way for live calls, batch lines, stored bodies and result files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.protocols import MalformedReply, Wire
from pllm_notebook.records import Reply

__all__ = ["decoded", "loaded"]


def loaded(content: bytes) -> Any:
    """Decode a response's JSON, strictly first.

    What strict JSON refuses is read a second time: a byte order mark, NaN (null), half a character (U+FFFD), bytes
    that are not UTF-8 (U+FFFD). Sending the request again would bring the same, and be paid for again.

    Raises:
        ValueError: If it is not JSON either way.
    """
    try:
        return orjson.loads(content)
    except ValueError:
        pass
    try:
        lenient = json.loads(content.decode("utf-8-sig", "replace"), parse_constant=lambda _: None, strict=False)
        # Halves that belong together are one character afterwards, the others are replaced.
        text = json.dumps(lenient, ensure_ascii=False)
        return orjson.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decoded(wire: Wire, body: Mapping[str, Any]) -> Reply:
    """Read a success's body.

    Raises:
        MalformedReply: If it is not one, whatever is wrong with it.
    """
    try:
        return wire.decode(body)
    except MalformedReply:
        raise
    except Exception as error:  # a type that nobody thought of is still this reply's fault alone
        raise MalformedReply(f"{type(error).__name__}: {error}"[:300]) from error
