"""Taking secrets out of text: the keys that this process has read, and whatever is shaped like one.

Providers quote the key that they refuse, libraries put the address they called into an error, and a proxy
answers with the request it was sent. Such text reaches messages, logs and the table of failures, so it passes
through here first. By value alone, a key that somebody else reads would get through; by pattern alone, one of
an unknown shape.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from urllib.parse import quote

__all__ = ["add_secret", "install_log_filter", "redact"]

# A shorter word is a word of the language as well ("none", "simulated"), and would be taken out of every sentence.
_SHORTEST = 8
# The beginnings that the large providers and routers give their keys; what follows is at least this long.
_KEY_PREFIXES = r"\b(?:sk-|sk_|pk-|AIza|AQ\.|ya29\.|gsk_|xai-|hf_|pplx-|r8_|gh[pousr]_|AKIA)"
_PATTERNS = (
    re.compile(rf"({_KEY_PREFIXES})[\w*.-]{{6,}}"),
    re.compile(r"\b((?:Bearer|Basic)(?: |%20))[\w*.+/=~-]{6,}", re.IGNORECASE),
    # A header or a field of JSON, in any quotes: "x-api-key": "…", Authorization: …
    re.compile(
        r"""((?:api[-_]?key|authorization|auth[-_]token|access[-_]token|client[-_]secret)\\?["']?\s?[:=]\s?\\?["']?"""
        r"""(?:(?:Bearer|Basic)\s)?)(?!Bearer|Basic)[^\s"'\\,;&}\])…]{6,}""",
        re.IGNORECASE,
    ),
    re.compile(r"""([?&](?:key|token|sig|signature)=)[^\s"'\\&#<>…]{6,}""", re.IGNORECASE),
    # The password in an address.
    re.compile(r"(://[^\s/:@]{0,200}:)[^\s/@]{1,200}(?=@)"),
)
_PREFIX = re.compile(_KEY_PREFIXES)
# What a text must contain, in any case, for the pattern at the same place to match it: most texts contain none of it.
_NEEDLES: tuple[tuple[str, ...], ...] = (
    ("sk-", "sk_", "pk-", "aiza", "aq.", "ya29.", "gsk_", "xai-", "hf_", "pplx-", "r8_", "gh", "akia"),
    ("bearer", "bas"),
    ("key", "auth", "token", "secret"),
    ("=",),
    ("://",),
)


def redact(text: str) -> str:
    """Return *text* without keys; of each, the beginning that says whose it is, and "…", is left."""
    text = _without_known(text)
    folded = text.casefold()  # as a pattern ignores case: the long s and the Kelvin sign are letters too
    for pattern, needles in zip(_PATTERNS, _NEEDLES, strict=True):
        for needle in needles:
            if needle in folded:
                text = pattern.sub(r"\1…", text)
                break
    return text


def add_secret(secret: str) -> None:
    """Redact *secret* from every text from now on. From any thread; called with each key that is read.

    This module's attributes reveal nothing of what it knows.
    """
    secret = secret.strip()
    if len(secret) >= _SHORTEST:
        _learn(secret)


def install_log_filter(*loggers: str) -> None:
    """Take keys out of all that is logged under these names, before any handler sees it.

    A logger's filter is not asked about what its children log, so each is named.
    """
    for name in loggers:
        logger = logging.getLogger(name)
        if not any(isinstance(each, _Redaction) for each in logger.filters):
            logger.addFilter(_Redaction())


class _Redaction(logging.Filter):
    """Rewrites records; keeps them all."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            said = record.getMessage()
        except Exception:  # a record that cannot be formatted is for its handler to complain of
            return True
        shown = redact(said)
        if shown != said:
            record.msg, record.args = shown, None
        if record.exc_info and record.exc_info[0] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            shown = redact(trace)
            if shown != trace:
                # The exception itself would be formatted again wherever it is found.
                record.exc_info, record.exc_text = None, shown
        return True


def _memory() -> tuple[Callable[[str], None], Callable[[str], str]]:
    """Return what learns secrets and what redacts them. These two alone hold them, where nothing shows them."""
    secrets: dict[str, str] = {}
    pattern: re.Pattern[str] | None = None
    lock = threading.Lock()

    def learn(secret: str) -> None:
        nonlocal pattern
        with lock:
            if secret in secrets:
                return
            prefix = _PREFIX.match(secret)
            for form in (secret, quote(secret, safe="")):
                secrets[form] = f"{prefix[0] if prefix else ''}…"
            # The longest first: one key may begin with another.
            pattern = re.compile("|".join(map(re.escape, sorted(secrets, key=len, reverse=True))))

    def without(text: str) -> str:
        return text if pattern is None else pattern.sub(lambda match: secrets[match[0]], text)

    return learn, without


_learn, _without_known = _memory()
