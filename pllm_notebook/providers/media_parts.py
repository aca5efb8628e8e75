"""What a prompt shows besides text, and the words for what a provider does not take."""

from __future__ import annotations

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Media

__all__ = ["IMAGES", "PDF", "data_url", "is_image", "untaken"]

# What both OpenAI and Anthropic read (developers.openai.com/api/docs/guides/images-vision,
# platform.claude.com/docs/en/build-with-claude/vision).
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
PDF = "application/pdf"


def is_image(media: Media) -> bool:
    """Return whether *media* is an image of a kind that every hosted provider reads, or one that it fetches itself."""
    # An address rarely tells the kind of image; its provider looks at what it finds there.
    return media.mime in IMAGES or (bool(media.url) and media.mime in ("", "image/*"))


def data_url(media: Media) -> str:
    """Return the file as an address that has the file in it."""
    return f"data:{media.mime};base64,{media.data}"


def untaken(media: Media, who: str, takes: str) -> UsageError:
    """Say that *who* does not take *media*, and what it takes.

    Args:
        media: As the prompt shows it.
        who: As the subject of a sentence.
        takes: As the object of a sentence.
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
