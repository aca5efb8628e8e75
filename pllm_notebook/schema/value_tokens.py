"""Computes the probabilities of a value's options from the tokens of a reply.

A value is a path of tokens, and each step has a few alternatives. An option may have several paths ("n" or "negative"),
and the probabilities of these paths are added up. Most models report probabilities from before the grammar's mask. At
each step, therefore, only alternatives that lead to an option count, as in the sampling of the answer. Their total
probability without the mask is the covered mass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pllm_notebook.schema.value_spans import Path, spans_by_path

__all__ = ["OptionShares", "Token", "ValueStep", "chosen_option", "option_shares", "steps_of"]

_LEAST = 1e-6
"""Alternatives of lower probability are dropped."""

_MOST_BLANKS = 1_000
"""Maximum characters that are read of a value beyond its longest option: white space before it, and the text after it
in its last token."""

_AFTER = ",}] \t\r\n"
"""Characters that may follow a value in JSON."""


class Token(NamedTuple):
    """One token of a reply.

    Attributes:
        text: Bytes of the token in the reply.
        logprob: Natural logarithm of its probability.
        top: The likeliest tokens at its position with their logprobs, mostly including itself.
    """

    text: bytes
    logprob: float
    top: Sequence[tuple[bytes, float]]


class ValueStep(NamedTuple):
    """One token of a value.

    Attributes:
        text: The part of the token that belongs to the value and to the text after it.
        alternatives: The same part of the possible tokens, including this one, with their probabilities.
    """

    text: str
    alternatives: Sequence[tuple[str, float]]


class OptionShares(NamedTuple):
    """The probabilities of a value's options.

    Attributes:
        p: Probability of each option; they add up to 1.
        mass: Their sum without the mask: the covered mass.
    """

    p: Sequence[float]
    mass: float


def steps_of(tokens: Sequence[Token], text: str, options: Mapping[Path, Sequence[str]]) -> dict[Path, list[ValueStep]]:
    """Return the tokens of some values of a reply, with the alternatives that lead to an option.

    Args:
        tokens: Tokens of the reply, in order. Tokens before *text* (a model's reasoning) are skipped.
        text: The reply.
        options: Options of each value in JSON, by path.

    Returns:
        Steps by path, only for values that were found. Empty if the tokens are not those of the text.
    """
    content = text.encode("utf-8", "surrogatepass")
    whole = b"".join(token.text for token in tokens)
    begin = whole.rfind(content)
    if begin < 0:
        return {}
    spans = spans_by_path(text)
    found = {}
    for path, own in options.items():
        if path in spans:
            start, end = (begin + len(text[:at].encode("utf-8", "surrogatepass")) for at in spans[path])
            found[path] = _steps(tokens, start, end, own)
    return found


def option_shares(steps: Sequence[ValueStep], options: Sequence[str]) -> OptionShares | None:
    """Return the probabilities of a value's options, None if no alternative leads to an option.

    The probability of an alternative that is the start of several options is divided equally between them, because its
    continuation is unknown.

    Args:
        steps: The tokens of the value.
        options: The options in JSON.
    """
    totals = [0.0] * len(options)
    before, reached = "", 1.0
    mass, unmasked = 0.0, 1.0  # so far, without the mask
    for step in steps:
        own, led = 0.0, []
        for alternative, p in step.alternatives:
            if alternative == step.text:
                own += p
            elif others := _led_to(before + alternative, options):
                led.append((others, p))
        here = own + sum(p for _, p in led)
        if here <= 0:
            return None
        for others, p in led:
            _share(totals, others, reached * p / here)
            mass += unmasked * p
        before += step.text
        reached *= own / here
        unmasked *= own
        if len(_beginning(before, options)) < 2:
            break
    ends = _led_to(before, options)
    _share(totals, ends, reached)
    mass += unmasked if ends else 0.0
    total = math.fsum(totals)
    return OptionShares([p / total for p in totals], min(mass, 1.0)) if total > 0 else None


def chosen_option(steps: Sequence[ValueStep], options: Sequence[str]) -> int | None:
    """Return the position of the option in the reply, None if it contains none of them."""
    written = "".join(step.text for step in steps).lstrip()
    return next((at for at in _led_to(written, options) if _is_whole(written, options[at])), None)


def _steps(tokens: Sequence[Token], start: int, end: int, options: Sequence[str]) -> list[ValueStep]:
    steps, at, before = [], 0, ""
    longest = max(map(len, options), default=0)
    for token in tokens:
        begin, at = at, at + len(token.text)
        if at <= start or not token.text:
            continue
        if begin >= end or len(before) > longest + _MOST_BLANKS:  # longer than every option
            break
        # A token may start before the value (`":"`): alternatives with another start lead elsewhere.
        lead = token.text[: max(0, start - begin)]
        given: dict[bytes, float] = dict(token.top)
        given.setdefault(token.text, token.logprob)
        own = token.text[len(lead) :].decode("utf-8", "replace")
        kept = []
        for alternative, logprob in given.items():
            rest = alternative[len(lead) :].decode("utf-8", "replace")
            if rest != own and not (alternative.startswith(lead) and _led_to(before + rest, options)):
                continue
            p = math.exp(min(0.0, logprob))
            if p >= _LEAST or rest == own:
                kept.append((rest, round(p, 9)))
        steps.append(ValueStep(own, kept))
        before += own
    return steps


def _led_to(written: str, options: Sequence[str]) -> list[int]:
    """Return the options that a prefix leads to: options that it completes, otherwise options that start with it."""
    text = written.lstrip()
    if not text:  # white space leads to all options and has no information
        return []
    whole = [at for at, option in enumerate(options) if _is_whole(text, option)]
    return whole or [at for at, option in enumerate(options) if option.startswith(text)]


def _beginning(written: str, options: Sequence[str]) -> list[int]:
    """Return the options that a prefix may still become."""
    text = written.lstrip()
    return [at for at, option in enumerate(options) if _is_whole(text, option) or option.startswith(text)]


def _is_whole(text: str, option: str) -> bool:
    return text.startswith(option) and (len(text) == len(option) or text[len(option)] in _AFTER)


def _share(totals: list[float], options: Sequence[int], p: float) -> None:
    for at in options:
        totals[at] += p / len(options)
