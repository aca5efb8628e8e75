"""Lines of JSON: results read from a stream of any size, one line held at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson

from pllm_notebook.providers.desks.faults import IDLE_S, malformed, network, patience

__all__ = ["encoded", "objects", "wrapped"]

logger = logging.getLogger("pllm_notebook")


def wrapped(before: bytes, custom_id: str, between: bytes, body: bytes) -> bytes:
    """Put a line around *body*, whose bytes are a live call's and stay as they are."""
    return b"".join((before, orjson.dumps(custom_id), between, body, b"}"))


def encoded(body: Any) -> bytes:
    """Give *body*, taken out of a result line, as the bytes of a response."""
    if isinstance(body, str):  # some servers of OpenAI's format put text there
        return body.encode("utf-8", "surrogatepass")
    try:
        return orjson.dumps(body)
    except TypeError:  # half a character, or a number of more than 64 bits
        return json.dumps(body).encode()


async def objects(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[dict[str, Any]]:
    """Read one object after another, in the order of the stream; closing it closes *chunks*.

    A line that is none is logged and left out: the row that it was for is then found to have no result.

    Raises:
        TransportFault: When the stream ends early or says nothing for two minutes. What was read until then holds.
    """
    async with aclosing(_split(chunks)) as lines:
        async for line, whole in lines:
            if not line.strip():
                continue
            try:
                read = _decoded(line)
            except ValueError:
                read = None
            if isinstance(read, dict):
                yield read
            elif whole:
                logger.warning("A line of a batch job's results is no JSON object and was left out")
            else:
                raise malformed("the results end in the middle of a line")


async def _split(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[tuple[bytes, bool]]:
    """Give lines, and of each whether its end was there."""
    held: list[bytes] = []
    async with aclosing(chunks):
        while True:
            with network():
                async with patience(IDLE_S):
                    chunk = await anext(chunks, None)
            if chunk is None:
                break
            first, *later = chunk.split(b"\n")
            held.append(first)
            for piece in later:
                yield b"".join(held), True
                held = [piece]
        yield b"".join(held), False


def _decoded(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        # A model can stop after half of a character, which strict JSON has not. The line's id is still good, and
        # the row's failure is its own.
        return json.loads(line)
