"""What media count for: their bytes are many times the tokens that they become."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pllm_notebook.messages_types import RawRequest, Turn

__all__ = ["MediaBody", "uncounted_bytes"]

# What an image counts for in bytes, each of which bounds a token: providers cut larger ones down to about this many.
_IMAGE_BYTES = 10_000
# Documents have at most about a hundred pages, and each page is shown as an image.
_DOCUMENT_BYTES = 100 * _IMAGE_BYTES


@dataclass(frozen=True)
class MediaBody(RawRequest):
    """A body with media in it.

    Attributes:
        uncounted: Its bytes that are not counted as tokens.
    """

    uncounted: int


def uncounted_bytes(turns: Iterable[Turn]) -> int:
    """Return the bytes of media that are not counted as tokens."""
    return sum(
        max(0, len(media.data) - (_IMAGE_BYTES if media.mime.startswith("image/") else _DOCUMENT_BYTES))
        for turn in turns
        for media in turn.media
    )
