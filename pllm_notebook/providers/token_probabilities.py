"""Token probabilities in a response: asked for, read, and kept in a short form.

A response with twenty alternatives for each token is a hundred times as long as its text. What is kept of it are the
tokens of the values that have options, in the place of all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pllm_notebook.schema import Path, Token, ValueStep, steps_of

__all__ = ["OTHER_WAYS", "TOP", "TokenFormat", "compacted", "token", "tokens_in", "value_steps"]

TOP = 20
"""Alternatives of each token: the most that OpenAI and Google give."""

OTHER_WAYS = (
    "Two other ways: probabilities='samples' with samples=5 asks each row five times, at five times the cost; or ask "
    "another model, one that gives token probabilities (a server of your own, local:)."
)
"""What a person can do about a model that gives none."""

_KEPT = "pllm_tokens"


@dataclass(frozen=True, kw_only=True)
class TokenFormat:
    """Token probabilities in one wire format.

    Attributes:
        ask: Returns a body that asks for them.
        take: Takes them out of a response's body, which is changed; None where it has none.
    """

    ask: Callable[[Mapping[str, Any]], dict[str, Any]]
    take: Callable[[dict[str, Any]], list[Token] | None]


def token(described: Mapping[str, Any], top: Sequence[Mapping[str, Any]], name: str, logprob: str) -> Token:
    """Return a token as a provider describes it.

    Args:
        described: The token.
        top: The alternatives.
        name: The field of the text.
        logprob: The field of the logarithm.
    """
    alternatives = [(_bytes(one, name), float(one[logprob])) for one in top]
    return Token(_bytes(described, name), float(described[logprob]), alternatives)


def compacted(
    raw: bytes, formats: Iterable[TokenFormat], text: str, options: Mapping[Path, Sequence[str]]
) -> tuple[bytes, bool]:
    """Return a response's body with the tokens of some values in place of all tokens, and whether it had any.

    Args:
        raw: The body.
        formats: That it may have.
        text: The answer in it.
        options: Of each value, as JSON writes them, by its path.
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
    """Return the tokens of some values of a stored response, short or as it came; None where it has none."""
    if b"ogprobs" not in raw and _KEPT.encode() not in raw:  # most responses, without decoding them
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
    """Take the tokens out of a body, None where it has none that can be read."""
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
