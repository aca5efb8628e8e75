"""Media in prompts: kinds, data URLs, and the error for what a provider does not accept."""

from __future__ import annotations

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Media

__all__ = ["IMAGES", "PDF", "data_url", "is_image", "untaken"]

# Supported by both OpenAI and Anthropic (developers.openai.com/api/docs/guides/images-vision,
# platform.claude.com/docs/en/build-with-claude/vision).
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
PDF = "application/pdf"


def is_image(media: Media) -> bool:
    """Return whether *media* is an image of a kind that every hosted provider reads, or that it fetches itself."""
    # An address rarely shows the kind of image, but the provider inspects what it fetches.
    return media.mime in IMAGES or (bool(media.url) and media.mime in ("", "image/*"))


def data_url(media: Media) -> str:
    """Return the file as a data URL."""
    return f"data:{media.mime};base64,{media.data}"


def untaken(media: Media, who: str, takes: str) -> UsageError:
    """Return the error for media that a provider does not accept.

    Args:
        media: The media in the prompt.
        who: The provider or endpoint, as the subject of a sentence.
        takes: The media that it accepts, as the object of a sentence.
    """
    if not media.url and not media.data:
        return UsageError(
            f"The prompt shows a file ({media.mime or 'of no kind'}) that has neither content nor an address. "
            f"Nothing was sent."
        )
    how = "by its address" if media.url else "as a file"
    return UsageError(
        f"The prompt shows {media.mime or 'something of no kind'} {how}, and {who} takes {takes}. Convert it, or ask "
        f"another model. Nothing was sent."
    )
