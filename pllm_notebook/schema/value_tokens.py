"""From the tokens of a reply to the probabilities of a value's options.

A value is written as a path of tokens, and each step has a few alternatives. An option has several paths ("n" or
"negative"), so what leads to the same option is added up. Models give probabilities mostly before a grammar masks them,
so at each step what leads to an option counts alone, as it does where the answer is drawn; how much of the model's
probability that was in all is kept as the covered mass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pllm_notebook.schema.value_spans import Path, value_spans

__all__ = ["OptionShares", "Token", "ValueStep", "chosen_option", "option_shares", "steps_of"]

_LEAST = 1e-6
"""Alternatives below it are not kept."""

_MOST_BLANKS = 1_000
"""White space before a value, and what follows it in its last token: a value that is longer than its options by more
is looked into no further."""

_AFTER = ",}] \t\r\n"
"""What may follow a value in JSON."""


class Token(NamedTuple):
    """One token of a reply.

    Attributes:
        text: As the reply has it.
        logprob: Natural logarithm of its probability.
        top: The likeliest tokens at its place with theirs, mostly itself among them.
    """

    text: bytes
    logprob: float
    top: Sequence[tuple[bytes, float]]


class ValueStep(NamedTuple):
    """One token of a value.

    Attributes:
        text: What of the token belongs to the value, and to what follows it.
        alternatives: The same of the tokens that could have been here, itself included, with their probabilities.
    """

    text: str
    alternatives: Sequence[tuple[str, float]]


class OptionShares(NamedTuple):
    """The probabilities of a value's options.

    Attributes:
        p: For each option; they add up to 1.
        mass: What they add up to without the mask: the covered mass.
    """

    p: Sequence[float]
    mass: float


def steps_of(tokens: Sequence[Token], text: str, options: Mapping[Path, Sequence[str]]) -> dict[Path, list[ValueStep]]:
    """Return the tokens of some values of a reply, with the alternatives that lead to an option.

    Args:
        tokens: Of the reply, in order; what comes before *text* among them (a model's reasoning) is passed over.
        text: The reply.
        options: Of each value, as JSON writes them, by its path.

    Returns:
        By path, only of values that were found; nothing where the tokens are not those of the text.
    """
    content = text.encode("utf-8", "surrogatepass")
    whole = b"".join(token.text for token in tokens)
    begin = whole.rfind(content)
    if begin < 0:
        return {}
    spans = value_spans(text)
    found = {}
    for path, own in options.items():
        if path in spans:
            start, end = (begin + len(text[:at].encode("utf-8", "surrogatepass")) for at in spans[path])
            found[path] = _steps(tokens, start, end, own)
    return found


def option_shares(steps: Sequence[ValueStep], options: Sequence[str]) -> OptionShares | None:
    """Return the probabilities of a value's options, None where no alternative leads to any.

    An alternative that begins several options is shared equally between them: what would have followed it is not
    known.

    Args:
        steps: The tokens of the value.
        options: As JSON writes them.
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
    """Return which option the reply has, None for none of them."""
    written = "".join(step.text for step in steps).lstrip()
    return next((at for at in _led_to(written, options) if _is_whole(written, options[at])), None)


def _steps(tokens: Sequence[Token], start: int, end: int, options: Sequence[str]) -> list[ValueStep]:
    steps, at, before = [], 0, ""
    longest = max(map(len, options), default=0)
    for token in tokens:
        begin, at = at, at + len(token.text)
        if at <= start or not token.text:
            continue
        if begin >= end or len(before) > longest + _MOST_BLANKS:  # no option is as long: it is none of them
            break
        # A token may begin before the value (`":"`): alternatives with another beginning lead elsewhere.
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
    """Return the options that a beginning leads to: the one that is whole in it, else those that begin with it."""
    text = written.lstrip()
    if not text:  # white space leads to all of them, and says nothing
        return []
    whole = [at for at, option in enumerate(options) if _is_whole(text, option)]
    return whole or [at for at, option in enumerate(options) if option.startswith(text)]


def _beginning(written: str, options: Sequence[str]) -> list[int]:
    """Return the options that a beginning may still become."""
    text = written.lstrip()
    return [at for at, option in enumerate(options) if _is_whole(text, option) or option.startswith(text)]


def _is_whole(text: str, option: str) -> bool:
    return text.startswith(option) and (len(text) == len(option) or text[len(option)] in _AFTER)


def _share(totals: list[float], options: Sequence[int], p: float) -> None:
    for at in options:
        totals[at] += p / len(options)
