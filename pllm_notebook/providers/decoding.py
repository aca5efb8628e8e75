"""Decoding of a response into a reply, for live calls, batch lines, stored bodies and results files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.protocols import MalformedReply, Wire
from pllm_notebook.types import Reply

__all__ = ["decoded", "loaded"]


def loaded(content: bytes) -> Any:
    """Decode a response's JSON, strictly first.

    If that fails, decode leniently: accept a byte order mark, NaN (as null), lone surrogates and bytes that are not
    UTF-8 (as U+FFFD). Sending the request again would return the same and cost again.

    Raises:
        ValueError: If it is not JSON either way.
    """
    try:
        return orjson.loads(content)
    except ValueError:
        pass
    try:
        lenient = json.loads(content.decode("utf-8-sig", "replace"), parse_constant=lambda _: None, strict=False)
        # Surrogate pairs become one character; lone surrogates are replaced.
        text = json.dumps(lenient, ensure_ascii=False)
        return orjson.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decoded(wire: Wire, body: Mapping[str, Any]) -> Reply:
    """Decode the body of a successful response.

    Raises:
        MalformedReply: If it is not what the provider documents.
    """
    try:
        return wire.decode(body)
    except MalformedReply:
        raise
    except Exception as error:  # an unexpected type fails this reply alone
        raise MalformedReply(f"{type(error).__name__}: {error}"[:300]) from error
