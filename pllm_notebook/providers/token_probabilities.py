"""Token probabilities in a response: how to request, read and store them.

A response with twenty alternatives for each token is a hundred times as long as its text. Only the tokens of values
with options are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pllm_notebook.schema import Path, Token, ValueStep, steps_of

__all__ = ["OTHER_WAYS", "TOP", "TokenFormat", "compacted", "token", "tokens_in", "value_steps"]

TOP = 20
"""Number of alternatives for each token: the maximum at OpenAI and Google."""

OTHER_WAYS = (
    "Two other ways: probabilities='samples' with samples=5 asks each row five times, at five times the cost; or ask "
    "another model, one that gives token probabilities (a server of your own, local:)."
)
"""Advice to users of a model that gives no token probabilities."""

_KEPT = "pllm_tokens"


@dataclass(frozen=True, kw_only=True)
class TokenFormat:
    """How one wire format has token probabilities.

    Attributes:
        ask: Returns a copy of a request's body that requests them.
        take: Removes them from a response's decoded body and returns them; returns None if it has none.
    """

    ask: Callable[[Mapping[str, Any]], dict[str, Any]]
    take: Callable[[dict[str, Any]], list[Token] | None]


def token(described: Mapping[str, Any], top: Sequence[Mapping[str, Any]], name: str, logprob: str) -> Token:
    """Return a token from a provider's description of it.

    Args:
        described: The token.
        top: Its alternatives, described in the same way.
        name: Field with the text.
        logprob: Field with the natural logarithm of the probability.
    """
    alternatives = [(_bytes(one, name), float(one[logprob])) for one in top]
    return Token(_bytes(described, name), float(described[logprob]), alternatives)


def compacted(
    raw: bytes, formats: Iterable[TokenFormat], text: str, options: Mapping[Path, Sequence[str]]
) -> tuple[bytes, bool]:
    """Replace all tokens in a response's body by those of the values with options.

    Args:
        raw: The body.
        formats: The token formats that it may have.
        text: The answer in the body.
        options: Options of each value as JSON texts, by the value's path.

    Returns:
        The short body, and whether the body had any tokens. A body without tokens is returned unchanged.
    """
    body = _decoded(raw)
    tokens = tokens_in(body, formats)
    if tokens is None:
        return raw, False
    found = steps_of(tokens, text, options)
    body[_KEPT] = [[path, [[step.text, step.alternatives] for step in steps]] for path, steps in found.items()]
    return orjson.dumps(body), True


def value_steps(
    raw: bytes, formats: Iterable[TokenFormat], text: str, options: Mapping[Path, Sequence[str]]
) -> dict[Path, list[ValueStep]] | None:
    """Return the tokens of the values with options in a stored response, by path.

    Args:
        raw: The response's body, shortened by `compacted` or as it arrived.
        formats: As for `compacted`.
        text: As for `compacted`.
        options: As for `compacted`.

    Returns:
        None if the response has no tokens, or none that can be read.
    """
    if b"ogprobs" not in raw and _KEPT.encode() not in raw:  # saves decoding most responses
        return None
    body = _decoded(raw)
    if _KEPT in body:
        try:
            return {
                tuple(path): [ValueStep(said, [(one, float(p)) for one, p in given]) for said, given in steps]
                for path, steps in body[_KEPT]
            }
        except (TypeError, ValueError):
            return None
    tokens = tokens_in(body, formats)
    return None if tokens is None else steps_of(tokens, text, options)


def tokens_in(body: dict[str, Any], formats: Iterable[TokenFormat]) -> list[Token] | None:
    """Remove the tokens from a decoded body and return them; return None if it has none that can be read."""
    for each in formats:
        try:
            tokens = each.take(body)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError):
            continue
        if tokens:
            return tokens
    return None


def _bytes(described: Mapping[str, Any], name: str) -> bytes:
    given = described.get("bytes")
    return bytes(given) if given else str(described[name]).encode("utf-8", "surrogatepass")


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
