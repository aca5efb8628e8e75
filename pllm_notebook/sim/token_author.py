"""Token probabilities of a simulated answer, for requests that ask for them.

The tokens of a value resemble a model's: an option is split into pieces, options with the same beginning share their
first pieces, and the alternatives of a piece come from the options that continue differently.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pllm_notebook.sim.draws import Draws
from pllm_notebook.sim.known_model import KnownModel

__all__ = ["SimToken", "asks_for_tokens", "tokens_of", "unsure"]

_DECODER = json.JSONDecoder()
_PIECES = re.compile(r"\w{1,3}|\s+|[^\w\s]", re.DOTALL)
_MOST_NUMBERS = 12
_PIECE = 4


class SimToken(NamedTuple):
    """A piece of the answer with its probability, and the alternatives at its position, including itself."""

    text: str
    p: float
    top: Sequence[tuple[str, float]]


def asks_for_tokens(body: Mapping[str, Any]) -> bool:
    """Return whether a request's body asks for token probabilities, in the format of any provider."""
    config = body.get("generationConfig") or {}
    included = body.get("include") or ()
    return bool(body.get("logprobs") or config.get("responseLogprobs") or "message.output_text.logprobs" in included)


def tokens_of(
    text: str, schema: Mapping[str, Any] | None, known: Mapping[str, Mapping[str, float]], draws: Draws
) -> list[SimToken]:
    """Return the tokens of an answer.

    Args:
        text: The answer.
        schema: Schema of the answer, None for text.
        known: Probability of each option (in its JSON form, or as text) by field.
        draws: Source of the other probabilities.
    """
    made: list[SimToken] = []
    at = 0
    for name, start, end, options in _values(text, schema or {}):
        made += _plain(text[at:start])
        made += _spelled(text[start:end], _distribution(text[start:end], options, known.get(name), draws))
        at = end
    return [*made, *_plain(text[at:])]


def unsure(
    text: str, schema: Mapping[str, Any], model: KnownModel, key: bytes
) -> tuple[str, dict[str, dict[str, float]]]:
    """Return the answer of a model that is sometimes wrong, and the stated probability of each option by field.

    Args:
        text: The correct answer.
        schema: Schema of the answer.
        model: Confidence and error rate of the model.
        key: Key of the request.
    """
    made, at, stated = "", 0, {}
    for name, start, end, options in _values(text, schema):
        if text[start:end] in options and len(options) > 1:
            chosen, p = model.answered(key, name, len(options), options.index(text[start:end]))
            stated[name] = dict(zip(options, p, strict=True))
            made += text[at:start] + options[chosen]
            at = end
    return made + text[at:], stated


def _plain(text: str) -> list[SimToken]:
    return [SimToken(piece, 1.0, [(piece, 1.0)]) for piece in _PIECES.findall(text)]


def _values(text: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, int, int, list[str]]]:
    """Yield the name, start, end and options of each value in the answer's object that has options."""
    definitions = schema.get("$defs", {})
    properties: Mapping[str, Any] = schema.get("properties", {})
    try:
        at = text.index("{") + 1
        while True:
            at = _skip(text, at)
            name, at = _DECODER.raw_decode(text, at)
            start = _skip(text, _skip(text, at) + 1)
            _, at = _DECODER.raw_decode(text, start)
            options = _options(properties.get(name, {}), definitions)
            if options:
                yield name, start, at, options
            at = _skip(text, at)
            if text[at] != ",":
                return
            at += 1
    except (ValueError, IndexError, TypeError):
        return


def _options(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[str]:
    if "$ref" in schema:
        schema = definitions.get(str(schema["$ref"]).rpartition("/")[2], {})
    if "enum" in schema or "const" in schema:
        return [json.dumps(value) for value in schema.get("enum", [schema.get("const")])]
    if "anyOf" in schema:
        branches = [_options(one, definitions) for one in schema["anyOf"]]
        return [option for branch in branches for option in branch] if all(branches) else []
    kind = schema.get("type")
    if (
        kind == "integer"
        and "minimum" in schema
        and schema.get("maximum", math.inf) - schema["minimum"] < _MOST_NUMBERS
    ):
        return [str(number) for number in range(schema["minimum"], schema["maximum"] + 1)]
    return {"boolean": ["true", "false"], "null": ["null"]}.get(str(kind), [])


def _distribution(
    written: str, options: Sequence[str], known: Mapping[str, float] | None, draws: Draws
) -> dict[str, float]:
    if known is not None:
        given = {option if option in options else json.dumps(option): p for option, p in known.items()}
        return {option: p for option, p in given.items() if p > 0} | ({} if given.get(written) else {written: 1e-4})
    weights = {option: draws.unit() for option in options}
    weights[written] = weights.get(written, 0.0) + len(options)
    total = sum(weights.values())
    return {option: weight / total for option, weight in weights.items()}


def _spelled(written: str, shares: Mapping[str, float]) -> list[SimToken]:
    """Split a value into tokens, each with the pieces with which the options continue at its position."""
    made, before = [], ""
    while before != written:
        here = {option: p for option, p in shares.items() if option.startswith(before) and option != before}
        total = sum(here.values())
        pieces: dict[str, float] = {}
        for option, p in here.items():
            piece = option[len(before) : len(before) + _PIECE]
            pieces[piece] = pieces.get(piece, 0.0) + p / total
        own = written[len(before) : len(before) + _PIECE]
        made.append(SimToken(own, pieces[own], sorted(pieces.items(), key=lambda one: -one[1])[:20]))
        before += own
    return made


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at
