"""Redact secrets from text: the keys that this process has read, and anything that looks like a key.

Providers quote a refused key, libraries put the called URL into an error, and a proxy may return the request. Such text
reaches messages, logs and the table of failures, so it is redacted here first. Redaction by value alone would miss keys
read by other code; redaction by pattern alone would miss keys of an unknown form.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from urllib.parse import quote

__all__ = ["add_secret", "install_log_filter", "redact"]

# Shorter secrets may be ordinary words ("none", "simulated"), which would be redacted from every sentence.
_SHORTEST = 8
# Key prefixes of the large providers and routers.
_KEY_PREFIXES = r"\b(?:sk-|sk_|pk-|sess-|AIza|AQ\.|ya29\.|gsk_|xai-|hf_|pplx-|r8_|gh[pousr]_|AKIA)"
_SCHEMES = r"(?:Bearer|Basic|Digest|ApiKey|Negotiate|AWS4-HMAC-SHA256)"
_PATTERNS = (
    # First, since the next ones would redact only the beginning of its first line.
    re.compile(r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-…]{6,}"),
    re.compile(rf"({_KEY_PREFIXES})[\w*.-]{{6,}}"),
    re.compile(r"\b((?:Bearer|Basic)(?: |%20))[\w*.+/=~-]{6,}", re.IGNORECASE),
    # A header or a field of JSON, in any quotes: "x-api-key": "…", Authorization: …
    re.compile(
        r"""((?:api[-_]?key|authorization|(?:auth|access|refresh|session|security|id)[-_]token|client[-_]secret"""
        r"""|(?:secret|private|access)[-_]?key)\\?["']?\s?[:=]\s?\\?["']?(?:(?:Bearer|Basic|ApiKey|Negotiate)\s)?)"""
        rf"""(?!{_SCHEMES}\b)[^\s"'\\,;&}}\])…]{{6,}}""",
        re.IGNORECASE,
    ),
    re.compile(
        r"""([?&](?:(?:x-(?:amz|goog)-)?(?:key|token|sig|signature|credential|security-token))=)[^\s"'\\&#<>…]{6,}""",
        re.IGNORECASE,
    ),
    # Only in quotes or after "=": sentences say "password: required". In quotes it may contain spaces.
    re.compile(
        r"""((?:password|passwd|passphrase)\\?["']\s?:\s?(\\?["']))(?:(?!\2)(?:\\.|[^\\\n…])){4,}""", re.IGNORECASE
    ),
    re.compile(r"""((?:password|passwd|passphrase|secret)=\\?["']?)[^\s"'\\,;&}\])…]{6,}""", re.IGNORECASE),
    # What signs one request: Authorization: Digest …, response="…", or AWS4-HMAC-SHA256 …, Signature=…
    re.compile(r"""\b((?:response|signature)=\\?["']?)[0-9a-f]{16,}""", re.IGNORECASE),
    # The password in an address.
    re.compile(r"(://[^\s/:@]{0,200}:)[^\s/@]{1,200}(?=@)"),
)
_PREFIX = re.compile(_KEY_PREFIXES)
# Strings, ignoring case, one of which a text must contain for the pattern at the same index to match. Most have none.
_NEEDLES: tuple[tuple[str, ...], ...] = (
    ("-----begin",),
    ("sk-", "sk_", "pk-", "sess-", "aiza", "aq.", "ya29.", "gsk_", "xai-", "hf_", "pplx-", "r8_", "gh", "akia"),
    ("bearer", "bas"),
    ("key", "auth", "token", "secret"),
    ("=",),
    ("pass",),
    ("pass", "secret="),
    ("response=", "nature="),
    ("://",),
)


def redact(text: str) -> str:
    """Return *text* with each key replaced by its identifying prefix and "…"."""
    text = _without_known(text)
    folded = text.casefold()  # like a case-insensitive pattern, for which the long s and the Kelvin sign are letters
    for pattern, needles in zip(_PATTERNS, _NEEDLES, strict=True):
        for needle in needles:
            if needle in folded:
                text = pattern.sub(r"\1…", text)
                break
    return text


def add_secret(secret: str) -> None:
    """Redact *secret* from every text from now on. Callable from any thread; called with each key that is read.

    This module's attributes do not reveal the secrets.
    """
    secret = secret.strip()
    if len(secret) >= _SHORTEST:
        _learn(secret)


def install_log_filter(*loggers: str) -> None:
    """Redact keys from everything logged under these names, before any handler sees it.

    A logger's filter does not apply to its children, so each logger is named.
    """
    for name in loggers:
        logger = logging.getLogger(name)
        if not any(isinstance(each, _Redaction) for each in logger.filters):
            logger.addFilter(_Redaction())


class _Redaction(logging.Filter):
    """Rewrite records without dropping any."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            said = record.getMessage()
        except Exception:  # the handler reports a record that cannot be formatted
            return True
        shown = redact(said)
        if shown != said:
            record.msg, record.args = shown, None
        if record.exc_info and record.exc_info[0] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            shown = redact(trace)
            if shown != trace:
                # Removed, because handlers would format the original exception again.
                record.exc_info, record.exc_text = None, shown
        return True


def _memory() -> tuple[Callable[[str], None], Callable[[str], str]]:
    """Return the function that adds secrets and the one that redacts them. Only their closures hold the secrets."""
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
