"""The documents of a session: each is kept once, in a file named by its content hash.

A path is read when the call is made, so the folder has the contents shown to the model even if the file changes later.
"""

from __future__ import annotations

import base64
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pllm_notebook.exceptions import StoreError
from pllm_notebook.formatting import escape_html, strip_control_chars
from pllm_notebook.messages_types import Media, Prompt
from pllm_notebook.redaction import redact
from pllm_notebook.sessions.prompt_reader import prompt_of
from pllm_notebook.sessions.session_files import hash_of, make_directory, write_atomic

__all__ = ["Document", "Documents"]

FOLDER = "documents"
_TEXT, _ADDRESS, _UNKNOWN = ".txt", ".url", ".bin"
# Not from `mimetypes`, whose table differs between machines.
_SUFFIXES = {
    "application/pdf": ".pdf",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/tiff": ".tiff",
    "image/webp": ".webp",
    "text/plain": _TEXT,
    "text/uri-list": _ADDRESS,
}
_KINDS = {suffix: kind for kind, suffix in _SUFFIXES.items()}
# Media shared by several calls are held in memory once: the most recently used ones, up to this size.
_SHARED_BYTES = 64 * 2**20
_BEGINNING = 60
_URL = re.compile(rb"[a-z][a-z0-9+.-]*://\S+\Z", re.IGNORECASE)
_MAX_LISTED = 50


@dataclass(frozen=True, slots=True)
class Document:
    """One stored document.

    Attributes:
        hash: sha256 of its content, base64url.
        kind: "text/plain", "image/png", "application/pdf", …; "text/uri-list" for a URL that the provider fetches.
        size_bytes: Size of the content.
        path: Path of the file.
    """

    hash: str
    kind: str
    size_bytes: int
    path: str

    def read(self) -> bytes:
        """Return the content."""
        with open(self.path, "rb") as file:
            return file.read()

    @property
    def beginning(self) -> str:
        """The first words of a text, with API keys redacted; "" for other documents."""
        if not self.kind.startswith("text/"):
            return ""
        with open(self.path, "rb") as file:
            words = " ".join(redact(file.read(4096).decode("utf-8", "replace")).split())
        return words if len(words) <= _BEGINNING else f"{words[: _BEGINNING - 1]}…"


class Documents:
    """All documents of a session, oldest first. Thread-safe."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._folder = os.path.join(os.fspath(directory), FOLDER)
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._shared: OrderedDict[str, Media] = OrderedDict()
        self._shared_bytes = 0

    def read(self, documents: Iterable[Any]) -> tuple[Prompt, tuple[str, ...]]:
        """Read documents into a prompt, and keep the new ones.

        Args:
            documents: Documents of any kind that `prompt_of` accepts.

        Returns:
            The prompt, and the hashes of its documents, in order.

        Raises:
            UsageError: For an unreadable document or a missing file. Nothing was sent.
            StoreError: If a document cannot be stored. Nothing was sent.
        """
        recorder = _RecordingStore(self)
        return prompt_of(documents, recorder), tuple(recorder.hashes)

    # Access.

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Document]:
        found = []
        for file in self._names():
            document = self._document(file)
            if document is not None:
                found.append((os.stat(document.path).st_mtime_ns, document))
        return iter([document for _, document in sorted(found, key=lambda each: each[0])])

    def __getitem__(self, name: str) -> Document:
        for suffix in (*_KINDS, _UNKNOWN):
            document = self._document(os.path.basename(name) + suffix)
            if document is not None:
                return document
        raise KeyError(name)

    def __repr__(self) -> str:
        earlier, shown = self._newest()
        lines = [f"{earlier + len(shown):,} documents in {self._folder}"]
        lines += [f"… {earlier:,} earlier ones"] if earlier else []
        lines += [
            f"{each.hash[:12]}  {each.kind:<16} {each.size_bytes:>10,} bytes  {strip_control_chars(each.beginning)}"
            for each in shown
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        style = "style='text-align:left'"
        earlier, shown = self._newest()
        more = f"<tr><td colspan='4' {style}>… {earlier:,} earlier ones</td></tr>" if earlier else ""
        rows = "".join(
            f"<tr><td {style}><code>{escape_html(each.hash[:12])}</code></td><td {style}>{escape_html(each.kind)}</td>"
            f"<td>{each.size_bytes:,}</td><td {style}>{escape_html(each.beginning)}</td></tr>"
            for each in shown
        )
        head = f"<tr><th {style}>document</th><th {style}>kind</th><th>bytes</th><th {style}>begins</th></tr>"
        return f"<table>{head}{more}{rows}</table>"

    def _newest(self) -> tuple[int, list[Document]]:
        """Return the newest documents, which are listed, after the number of the others."""
        found = list(self)
        return max(0, len(found) - _MAX_LISTED), found[-_MAX_LISTED:]

    def _document(self, file: str) -> Document | None:
        path = os.path.join(self._folder, file)
        name, suffix = os.path.splitext(file)
        try:
            return Document(name, _KINDS.get(suffix, "application/octet-stream"), os.path.getsize(path), path)
        except FileNotFoundError:
            return None

    # Storage (see `document_reader.DocumentStore`).

    def keep_text(self, text: str) -> str:
        """Store a text, and return its hash."""
        content = text.encode("utf-8", "surrogatepass")
        name = hash_of(content)
        self._keep(name, _TEXT, content)
        return name

    def keep_media(self, media: Media) -> tuple[Media, str]:
        """Store an image or a PDF, and return it with its hash. Equal content is one shared object."""
        if media.url:
            content = media.url.encode()
            name = hash_of(content)
            self._keep(name, _ADDRESS, content)
            return media, name
        content = base64.b64decode(media.data)
        name = hash_of(content)
        self._keep(name, _SUFFIXES.get(media.mime, _UNKNOWN), content)
        return self._one(name, media), name

    def media(self, name: str, like: Media) -> Media:
        """Return a stored image or PDF.

        Args:
            name: Hash of its content.
            like: Its type and name, without the content.

        Raises:
            StoreError: If it is missing. Nothing was sent.
        """
        with self._lock:
            known = self._shared.get(name)
        if known is not None and (known.mime, known.name) == (like.mime, like.name):
            return known
        # A text with the same bytes has the same hash, and its own file.
        document = self._document(name + _SUFFIXES.get(like.mime, _UNKNOWN)) or self._document(name + _ADDRESS)
        try:
            document = document or self[name]  # of a directory in which each hash had one file, of the first kind
        except KeyError:
            raise StoreError(
                f"A conversation contains the document {name[:12]}…, which is no longer in {self._folder}. "
                f"Nothing was sent."
            ) from None
        content = document.read()
        if document.kind == "text/uri-list" or (document.kind == "text/plain" != like.mime and _is_url(content)):
            return replace(like, url=content.decode())
        return self._one(name, replace(like, data=base64.b64encode(content).decode("ascii")))

    def _keep(self, name: str, suffix: str, content: bytes) -> None:
        file = name + suffix
        with self._lock:
            if file in self._known:
                return
        path = os.path.join(self._folder, file)
        if not os.path.exists(path):
            make_directory(self._folder)
            # Not synced: the caller still has the content, and the keys of answers do not depend on this file.
            write_atomic(path, content, synced=False)
        with self._lock:
            self._known.add(file)

    def _one(self, name: str, media: Media) -> Media:
        with self._lock:
            known = self._shared.get(name)
            if known == media:
                self._shared.move_to_end(name)
                return known
            if known is not None:
                self._shared_bytes -= len(known.data)
            self._shared[name] = media
            self._shared.move_to_end(name)
            self._shared_bytes += len(media.data)
            while self._shared_bytes > _SHARED_BYTES and len(self._shared) > 1:
                _, oldest = self._shared.popitem(last=False)
                self._shared_bytes -= len(oldest.data)
            return media

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._folder) if not name.startswith(".")]
        except FileNotFoundError:
            return []


def _is_url(content: bytes) -> bool:
    return _URL.match(content) is not None


class _RecordingStore:
    """A document store that records the hashes of what it stores."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.hashes: list[str] = []

    def keep_text(self, text: str) -> str:
        self.hashes.append(self._documents.keep_text(text))
        return self.hashes[-1]

    def keep_media(self, media: Media) -> tuple[Media, str]:
        kept = self._documents.keep_media(media)
        self.hashes.append(kept[1])
        return kept
