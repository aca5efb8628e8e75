"""Generated strings: free text, formats, and samples of a regular expression."""

from __future__ import annotations

import importlib
import re
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from typing import Any

from pllm_notebook.sim.draws import Draws

__all__ = ["FORMATS", "MARK", "free_text", "matching", "prose"]

MARK = "SIMULATED"
_WORD_LIST = (
    "amber anchor atlas autumn basil beacon birch bridge candle canyon cedar cloud copper coral delta ember "
    "falcon fern field flint forest garden glacier granite harbor hazel heron indigo island ivory jasper juniper "
    "lagoon lantern laurel linen lotus maple marble meadow mist moss north ocean olive onyx orchard pearl pepper "
    "pine prairie quartz quill raven reef ridge river saffron sage "
    "silver slate spruce summit thicket timber tulip"
)
_WORDS = _WORD_LIST.split()
_COUNT = len(_WORDS)
_PRINTABLE = [chr(code) for code in range(32, 127)]


def free_text(draws: Draws, least: int, most: int | None) -> str:
    """Return text of *least* to *most* characters that begins with the mark, cut if necessary."""
    text = f"{MARK} {_word(draws)} {_word(draws)} {draws.hex(4)}"
    while len(text) < least:
        text += f" {_word(draws)}"
    if most is not None and len(text) > most:
        # With the mark alone, all short texts would be equal: keep half of the length for the rest.
        tail = draws.hex(8)[: most // 2] if most < 24 else ""
        text = text[: most - len(tail)] + tail
        text = text[:-1] + "x" if text.endswith(" ") else text
    return text


def prose(draws: Draws) -> str:
    """Return a text answer."""
    words = [_word(draws) for _ in range(8 + draws.below(24))]
    return f"{MARK} answer {draws.hex(6)}: {' '.join(words)}."


def _word(draws: Draws) -> str:
    return _WORDS[draws.below(_COUNT)]


def _date(draws: Draws) -> str:
    # A past date, since a schema cannot say whether a date must be past or future.
    return f"{2000 + draws.below(25)}-{1 + draws.below(12):02d}-{1 + draws.below(28):02d}"


def _time(draws: Draws) -> str:
    return f"{draws.below(24):02d}:{draws.below(60):02d}:{draws.below(60):02d}"


def _host(draws: Draws) -> str:
    return f"{_word(draws)}.example.com"


def _ipv4(draws: Draws) -> str:
    return f"192.0.2.{draws.below(256)}"


def _ipv6(draws: Draws) -> str:
    return f"2001:db8::{1 + draws.below(65535):x}"


def _uuid(draws: Draws, version: int = 4) -> str:
    digits = draws.hex(32)
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _base64(draws: Draws) -> str:
    return b64encode(f"{MARK} {draws.hex(8)}".encode()).decode()  # 18 bytes, so that no padding is needed


FORMATS: dict[str, Callable[[Draws], str]] = {
    "date": _date,
    "date-time": lambda draws: f"{_date(draws)}T{_time(draws)}Z",
    "time": lambda draws: f"{_time(draws)}Z",
    "duration": lambda draws: f"P{draws.below(30)}DT{draws.below(24)}H{draws.below(60)}M",
    "email": lambda draws: f"simulated.{_word(draws)}{draws.below(100)}@example.com",
    "idn-email": lambda draws: f"simulated.{_word(draws)}@example.com",
    "name-email": lambda draws: f"Simulated <simulated.{_word(draws)}@example.com>",
    "hostname": _host,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "ipvanyaddress": _ipv4,
    "ipv4network": lambda draws: f"198.51.{draws.below(256)}.0/24",
    "ipv6network": lambda draws: f"2001:db8:{draws.below(65536):x}::/48",
    "ipvanynetwork": lambda draws: f"198.51.{draws.below(256)}.0/24",
    "uri": lambda draws: f"https://{_host(draws)}/simulated/{draws.hex(6)}",
    "uri-reference": lambda draws: f"/simulated/{draws.hex(6)}",
    "ipv4interface": lambda draws: f"{_ipv4(draws)}/24",
    "ipv6interface": lambda draws: f"{_ipv6(draws)}/48",
    "ipvanyinterface": lambda draws: f"{_ipv4(draws)}/24",
    "uuid": _uuid,
    **{f"uuid{version}": partial(_uuid, version=version) for version in range(1, 9)},
    "byte": _base64,
    "base64": _base64,
    "base64url": _base64,
    "json-pointer": lambda draws: f"/simulated/{draws.hex(4)}",
    "json-string": lambda draws: f'"{MARK} {draws.hex(4)}"',
    "regex": lambda draws: f"{MARK.lower()}-[a-z]+",
}

_TRIES = 20


def matching(pattern: str, draws: Draws, least: int, most: int | None) -> str | None:
    """Return a string of *least* to *most* characters that contains a match of *pattern*, or None if none was found.

    Best effort: literals, classes, groups, alternatives and repeats are sampled; anchors and lookarounds are ignored.
    The result is checked, and drawn again up to 20 times.
    """
    try:
        # The standard library's own parser. It is private, but unchanged from Python 3.11 to 3.14.
        tree = importlib.import_module("re._parser").parse(pattern)
        compiled = re.compile(pattern)
    except (re.error, ImportError, RecursionError, OverflowError):
        return None
    for attempt in range(_TRIES):
        text = _sample(tree, draws, {}, 2 + attempt)
        if len(text) >= least and (most is None or len(text) <= most) and compiled.search(text):
            return text
    return None


def _sample(tree: Any, draws: Draws, groups: dict[int, str], extra: int) -> str:
    out = []
    for op, argument in tree:
        name = str(op)
        if name == "LITERAL":
            out.append(chr(argument))
        elif name == "NOT_LITERAL":
            out.append(next(char for char in "abx" if ord(char) != argument))
        elif name == "ANY":
            out.append("abcdefghijklmnopqrstuvwxyz"[draws.below(26)])
        elif name == "IN":
            out.append(draws.pick(_class(argument)))
        elif name == "BRANCH":
            out.append(_sample(draws.pick(argument[1]), draws, groups, extra))
        elif name == "SUBPATTERN":
            text = _sample(argument[3], draws, groups, extra)
            if argument[0] is not None:
                groups[argument[0]] = text
            out.append(text)
        elif name == "ATOMIC_GROUP":
            out.append(_sample(argument, draws, groups, extra))
        elif name.endswith("_REPEAT"):
            low, high, inner = argument
            count = low + draws.below(min(int(high) - low, extra) + 1)
            out.append("".join(_sample(inner, draws, groups, extra) for _ in range(count)))
        elif name == "GROUPREF":
            out.append(groups.get(argument, ""))
    return "".join(out)


def _class(items: Any) -> list[str]:
    found: list[str] = []
    negated = False
    for op, argument in items:
        name = str(op)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            found.append(chr(argument))
        elif name == "RANGE":
            # For a wide range, such as a whole script, its beginning is enough.
            found.extend(chr(code) for code in range(argument[0], min(argument[1], argument[0] + 255) + 1))
        elif name == "CATEGORY":
            pattern = {"DIGIT": r"\d", "SPACE": " ", "WORD": r"\w"}.get(str(argument).rsplit("_", 1)[-1], ".")
            inverse = "_NOT_" in str(argument)
            found.extend(char for char in _PRINTABLE if bool(re.fullmatch(pattern, char)) != inverse)
    if negated:
        found = [char for char in _PRINTABLE if char not in set(found)]
    return found or ["x"]
