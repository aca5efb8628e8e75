"""A model of the providers' prompt caches, used with the option `prompt_cache`.

A prefix is readable by requests that arrive after a request with the same prefix was answered. On Anthropic,
prefixes end at marked blocks, and writing them is charged. On the other providers, caching is automatic, in steps of
128 tokens. Entries expire only on `reset`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from pllm_notebook.sim.tokens import BYTES_PER_TOKEN
from pllm_notebook.sim.wire_types import ParsedRequest, Tokens

__all__ = ["PrefixMatch", "PromptCache", "marked"]

# The shortest cached prefix and the step between prefixes, in tokens
# (developers.openai.com/api/docs/guides/prompt-caching; most of Anthropic's models have the same minimum).
_LEAST = 1024
_STEP = 128


@dataclass(slots=True)
class PrefixMatch:
    """The prefixes that a request shares with requests answered before its arrival.

    `keys` identify all its prefixes, shortest first. `read` and `written` are numbers of tokens.
    """

    keys: list[bytes]
    read: int
    written: int


class PromptCache:
    """The prefixes of all answered requests, for all models."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def look(self, ask: ParsedRequest, schema_json: bytes) -> PrefixMatch:
        """Match an arriving request against the cache."""
        explicit = ask.provider == "anthropic"
        keys: list[bytes] = []
        read = longest = 0
        hashed = hashlib.sha256(ask.model.encode() + b"\0" + schema_json)
        for data, tokens in _marked_prefixes(ask) if explicit else _steps(ask, schema_json):
            hashed.update(data)
            if tokens >= _LEAST:
                key = hashed.digest()
                keys.append(key)
                longest = tokens
                read = tokens if key in self._known else read
        return PrefixMatch(keys, read, longest - read if explicit else 0)

    def answered(self, seen: PrefixMatch, tokens: Tokens) -> None:
        """Store the prefixes of an answered request, and add its cache reads and writes to *tokens*."""
        self._known.update(seen.keys)
        tokens.cached = min(seen.read, tokens.input)
        tokens.written = min(seen.written, tokens.input - tokens.cached)


def marked(body: dict[str, Any]) -> str:
    """Return the path of the first block with a cache mark in an Anthropic body, as in its errors; "" if none."""
    places = [("system", body.get("system"))]
    places += [(f"messages.{at}.content", turn.get("content")) for at, turn in enumerate(body.get("messages") or ())]
    for place, content in places:
        for at, block in enumerate(content if isinstance(content, list) else ()):
            if "cache_control" in block:
                return f"{place}.{at}.cache_control"
    return ""


def _steps(ask: ParsedRequest, schema_json: bytes) -> Iterator[tuple[bytes, int]]:
    files = [hashlib.sha256(file.encode()).hexdigest() for file in ask.said.media]
    texts = [schema_json.decode(), ask.system, *files, *(part for turn in ask.messages for part in turn)]
    whole = "\0".join(texts).encode("utf-8", "replace")
    size = _STEP * BYTES_PER_TOKEN
    for end in range(size, len(whole) + 1, size):
        yield whole[end - size : end], end // BYTES_PER_TOKEN


def _marked_prefixes(ask: ParsedRequest) -> Iterator[tuple[bytes, int]]:
    blocks = list(_blocks(ask.body))
    if "cache_control" in ask.body and blocks:
        blocks[-1] = (blocks[-1][0], True)
    data, size = b"", 0
    for text, ends in blocks:
        encoded = text.encode("utf-8", "replace")
        data, size = data + encoded + b"\0", size + len(encoded)
        if ends:
            yield data, size // BYTES_PER_TOKEN
            data = b""


def _blocks(body: Any) -> Iterator[tuple[str, bool]]:
    """Yield each block's text and whether it is marked, in cache order."""
    for tool in body.get("tools") or ():
        yield orjson.dumps({**tool, "cache_control": None}).decode(), "cache_control" in tool
    for content in (body.get("system"), *(turn.get("content") for turn in body["messages"])):
        whole: Iterable[Any] = [{"text": content}] if isinstance(content, str) else content or ()
        for block in whole:
            yield block.get("text") or _block_id(block), "cache_control" in block


def _block_id(block: Any) -> str:
    """Return a fixed-size id of a block without text (a file, a tool's call or result)."""
    return hashlib.sha256(orjson.dumps({**block, "cache_control": None})).hexdigest()
