"""JSONL of any size, read and written with one line in memory at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import IO, Any

import orjson

from pllm_notebook.providers.batch.errors import IDLE_S, deadline, malformed, network
from pllm_notebook.providers.bounds import MOST_REPLY_BYTES
from pllm_notebook.providers.decoding import loaded

__all__ = ["MOST_LINE_BYTES", "encoded", "file_lines", "objects", "wrapped"]

MOST_LINE_BYTES = 2 * MOST_REPLY_BYTES
"""Room for an escaped reply and its envelope; a longer line is skipped."""

logger = logging.getLogger("pllm_notebook")


def wrapped(before: bytes, custom_id: str, between: bytes, body: bytes) -> bytes:
    """Return a line that contains *body*, the bytes of a live call, unchanged."""
    return b"".join((before, orjson.dumps(custom_id), between, body, b"}"))


def encoded(body: Any) -> bytes:
    """Return the decoded *body* of a result line as the bytes of a response."""
    if isinstance(body, str):  # some OpenAI-compatible servers put text there
        return body.encode("utf-8", "surrogatepass")
    try:
        return orjson.dumps(body)
    except TypeError:  # a lone surrogate, or a number of more than 64 bits
        return json.dumps(body).encode()


async def objects(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[dict[str, Any]]:
    """Yield the objects of a stream, in order. Closing the generator closes *chunks*.

    A line that is not an object is logged and skipped: its row then has no result.

    Raises:
        TransportFault: If the stream ends early or stalls for two minutes. Objects read before are valid.
    """
    async with aclosing(_split(chunks)) as lines:
        async for line, whole in lines:
            if not line.strip():
                continue
            try:
                read = loaded(line)
            except ValueError:
                read = None
            if isinstance(read, dict):
                yield read
            elif whole:
                logger.warning("A line of a batch job's results is not a JSON object and was left out")
            else:
                raise malformed("the results end in the middle of a line")


async def _split(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[tuple[bytes, bool]]:
    """Yield lines, each with whether it was complete; an empty line replaces one that is too long."""
    held: list[bytes] = []
    left = MOST_LINE_BYTES
    async with aclosing(chunks):
        while True:
            with network():
                async with deadline(IDLE_S):
                    chunk = await anext(chunks, None)
            if chunk is None:
                break
            first, *later = chunk.split(b"\n")
            left = _hold(held, first, left)
            for piece in later:
                yield _line(held), True
                held = []
                left = _hold(held, piece, MOST_LINE_BYTES)
        yield _line(held), False


def _hold(held: list[bytes], piece: bytes, left: int) -> int:
    """Add a piece of a line and return the bytes left for the line; below 0, none of the line is kept."""
    if left >= 0 > left - len(piece):
        _warn_of_length()
    left -= len(piece)
    if left < 0:
        held.clear()
    else:
        held.append(piece)
    return left


def _line(held: list[bytes]) -> bytes:
    return b"".join(held)


def _warn_of_length() -> None:
    logger.warning("A line of results is longer than %d bytes and was left out", MOST_LINE_BYTES)


def file_lines(file: IO[bytes], most: int = MOST_LINE_BYTES) -> Iterator[bytes]:
    """Yield a file's lines with their newlines; of a line longer than *most* bytes, only the newline if it has one.

    Args:
        file: Open for reading.
        most: Maximum length of a line without its newline, in bytes.
    """
    # One byte more than a line may have: its newline, or the proof that it is too long.
    while line := file.readline(most + 1):
        if len(line) <= most or line.endswith(b"\n"):
            yield line
            continue
        _warn_of_length()
        while (rest := file.readline(most)) and not rest.endswith(b"\n"):
            pass
        yield rest[-1:]
