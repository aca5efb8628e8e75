"""Images and documents: convert the user's source (a path, bytes, a URL, a PIL image) to the media sent to a model.

A file's type is read from its first bytes, not from its name, because every provider rejects a wrong type.
"""

from __future__ import annotations

import base64
import binascii
import io
import mimetypes
import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from pllm_notebook.exceptions import UsageError
from pllm_notebook.local_files import LARGEST_BYTES, AllowedDirectories, FileRefusedError, local_path, read_file
from pllm_notebook.messages_types import Media
from pllm_notebook.redaction import redact

__all__ = ["ANY_IMAGE", "load_media", "read_media_file"]

ANY_IMAGE = "image/*"
"""The type of a URL whose name does not show the file type. Nothing is fetched to find it."""

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)
# Many texts begin with "BM", but the header after the file header has one of a few sizes.
_BITMAP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
# ISO base media files have their brand after the first box's length and the word "ftyp".
_BRANDS = {b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif", b"avif": "image/avif"}
_DATA_URL = re.compile(r"data:(?P<mime>[\w.+-]+/[\w.+-]+)?(?P<parameters>(;[^;,]*)*),(?P<data>.*)", re.DOTALL)
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_SHOWN = 80


def load_media(source: Any, allowed: AllowedDirectories | None = None, largest: int = LARGEST_BYTES) -> Media:
    """Convert *source* to the image or PDF that a model is shown.

    A file is read now; a URL is left for the provider to fetch. Nothing is sent.

    Args:
        source: A path (string or `Path`), a URL (http, https, gs, …), a data URL, bytes, a PIL image (sent as
            PNG, or in the format that it was read from), or a `Media`.
        allowed: The allowed directories for a path from data; None for a path from the caller's own code.
        largest: Maximum size of a file in bytes.

    Raises:
        UsageError: If a file is missing, unreadable, too large, not a regular file or not in *allowed*, or if its first
            bytes are neither an image's nor a PDF's. At most the beginning of its content was read. Nothing was sent.
    """
    if isinstance(source, Media):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _file(bytes(source), f"{len(source):,} bytes")
    if isinstance(source, str) and source.lstrip()[:5].lower() == "data:":
        return _from_data_url(source.strip())
    if isinstance(source, str) and _ADDRESS.match(source) and not source.lower().startswith("file://"):
        return _address(source.strip())
    if isinstance(source, (str, os.PathLike)):
        return _from_path(source, allowed, largest)
    if callable(getattr(source, "save", None)) and hasattr(source, "getbands"):
        return _from_pil_image(source)
    raise UsageError(
        f"An image is a path, an address, a data URL, bytes or a PIL image, not {type(source).__name__}. "
        f"Nothing was sent."
    )


def _file(content: bytes, source: str, name: str = "") -> Media:
    mime = _type_of(content)
    if mime is None:
        begins = f"begins with {content[:8]!r}" if content else "is empty"
        raise UsageError(
            f"{source} {begins}, which is not a known image (PNG, JPEG, GIF, WebP, BMP, TIFF, HEIC, AVIF) nor a "
            f"PDF. Nothing was sent."
        )
    named = name if mime == "application/pdf" else ""
    return Media(mime, data=base64.b64encode(content).decode("ascii"), name=named)


def _type_of(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:8] == b"ftyp":
        return _BRANDS.get(content[8:12])
    if content[:2] == b"BM":
        sound = content[6:10] == bytes(4) and int.from_bytes(content[14:18], "little") in _BITMAP_HEADERS
        return "image/bmp" if sound else None
    # Some readers accept bytes before a PDF's signature, but then a log that quotes a PDF would count as one.
    return next((mime for start, mime in _STARTS if content.startswith(start)), None)


def _from_path(source: str | os.PathLike[Any], allowed: AllowedDirectories | None, largest: int) -> Media:
    path = local_path(source)
    content = read_media_file(path, allowed, largest, wanted=lambda beginning: _type_of(beginning) is not None)
    return _file(content, f"The file {_short(path)!r}", os.path.basename(path))


def read_media_file(
    path: str,
    allowed: AllowedDirectories | None = None,
    largest: int = LARGEST_BYTES,
    wanted: Callable[[bytes], bool] | None = None,
) -> bytes:
    """Read a file to show to a model (see `local_files.read_file`).

    Raises:
        UsageError: If the file cannot be read. Nothing was sent.
    """
    try:
        return read_file(path, allowed=allowed, largest=largest, wanted=wanted)
    except FileRefusedError as error:
        raise UsageError(f"The file {_short(path)!r} cannot be read: {error}. Nothing was sent.") from error


def _from_data_url(source: str) -> Media:
    match = _DATA_URL.fullmatch(source)
    if match is None:
        raise UsageError(f"{_short(source)!r} begins as a data URL and is not one. Nothing was sent.")
    try:
        if match["parameters"].lower().endswith(";base64"):
            content = base64.b64decode(unquote(match["data"]), validate=True)
        else:
            content = unquote_to_bytes(match["data"])
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"The data URL {_short(source)!r} is not base64: {error}. Nothing was sent.") from error
    return _file(content, f"The data URL {_short(source)!r}")


def _address(source: str) -> Media:
    path = unquote(urlsplit(source).path)
    guessed, _ = mimetypes.guess_type(path)
    known = guessed is not None and (guessed.startswith("image/") or guessed == "application/pdf")
    mime = guessed if known and guessed is not None else ANY_IMAGE
    return Media(mime, url=source, name=os.path.basename(path) if mime == "application/pdf" else "")


def _from_pil_image(picture: Any) -> Media:
    # An image read from a JPEG stays a JPEG, since a photograph is many times larger as PNG.
    kind = picture.format if getattr(picture, "format", None) in ("PNG", "JPEG", "WEBP", "GIF") else "PNG"
    content = io.BytesIO()
    try:
        picture.save(content, format=kind)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"The picture (mode {picture.mode!r}) cannot be written as {kind}: {error}. Convert it, for example with "
            f"picture.convert('RGB'). Nothing was sent."
        ) from error
    return _file(content.getvalue(), "The picture")


def _short(text: str) -> str:
    text = redact(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
