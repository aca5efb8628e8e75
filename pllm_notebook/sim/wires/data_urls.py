"""Basic checks of files in requests. Each provider has its own messages for files that it rejects."""

from __future__ import annotations

import base64
import binascii
import re

__all__ = ["IMAGES", "PDF", "is_base64", "is_web", "split"]

IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
PDF = "application/pdf"
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,")


def split(url: str) -> tuple[str, str] | None:
    """Return the media type and base64 data of a data URL, or None for another URL."""
    found = _DATA.match(url)
    return (found.group(1), url[found.end() :]) if found else None


def is_base64(data: object) -> bool:
    """Return whether *data* is a non-empty file in base64."""
    try:
        return isinstance(data, str) and len(base64.b64decode(data, validate=True)) > 0
    except (binascii.Error, ValueError):
        return False


def is_web(url: object) -> bool:
    """Return whether *url* is a URL that a provider would fetch."""
    return isinstance(url, str) and url.startswith(("https://", "http://", "gs://"))
