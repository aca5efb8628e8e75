"""The request body of a spec as it goes on the wire, ready for each row's text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pllm_notebook.execution.cache_key import BodyTemplate
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import RawRequest, Turn

__all__ = ["MediaBody", "WireBody", "half_surrogate", "uncounted_bytes", "wants_several"]


class WireBody(NamedTuple):
    """The body as it goes on the wire at present, ready for each row's text.

    Attributes:
        version: Version of the quirks that it was built with.
        shared: Whether it is marked for the provider's prompt cache.
        common_prefix: The assumed common beginning of the prompts.
        without_prefix: Template for a row's whole text.
        with_prefix: Template for a row's text without the prefix; None if there is no common prefix, or the wire has no
            block of its own for it.
        prefix_json: The prefix as the beginning of a JSON string, with the opening quote.
    """

    version: int
    shared: bool
    common_prefix: str
    without_prefix: BodyTemplate
    with_prefix: BodyTemplate | None
    prefix_json: bytes


# Bytes counted for an image, one per possible token: providers scale larger images down to about this many tokens.
_IMAGE_BYTES = 10_000
# Documents have at most about a hundred pages, and each page is shown as an image.
_DOCUMENT_BYTES = 100 * _IMAGE_BYTES


@dataclass(frozen=True)
class MediaBody(RawRequest):
    """A body that contains media.

    Attributes:
        uncounted: Number of media bytes that are not counted as tokens.
    """

    uncounted: int


def uncounted_bytes(turns: Iterable[Turn]) -> int:
    """Return the number of media bytes that are not counted as tokens."""
    return sum(
        max(0, len(media.data) - (_IMAGE_BYTES if media.mime.startswith("image/") else _DOCUMENT_BYTES))
        for turn in turns
        for media in turn.media
    )


def wants_several(request: RawRequest) -> bool:
    """Return whether a caller's own body requests several answers at once."""
    config = request.fields.get("generationConfig")
    wanted = request.fields.get("n"), config.get("candidateCount") if isinstance(config, dict) else None
    return any(number not in (None, 1) for number in wanted)


def half_surrogate(prompt: str) -> Failure:
    """Return the failure of a prompt that cannot be encoded because it contains a lone surrogate."""
    at = next((i for i, char in enumerate(prompt) if "\ud800" <= char <= "\udfff"), 0)
    return Failure(
        FailureKind.INPUT,
        f"The prompt has half a surrogate pair ({prompt[at]!a}) at character {at:,}, which is no text "
        f"that a provider takes. Clean the text, for example with text.encode('utf-8', 'replace').decode('utf-8'), or "
        f"a column with .str.encode('utf-8', 'replace').str.decode('utf-8'). Nothing was sent for this prompt.",
    )
