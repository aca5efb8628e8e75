"""Conversations as a tree: each message is a node, named by the hash of all messages up to it.

The same message after the same messages is the same node, so a program that is run again finds its own conversations,
and a program that takes another path leaves the existing ones unchanged.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.formatting import escape_html, strip_control_chars
from pllm_notebook.messages_types import Media, ProviderMessage, ToolCall, ToolCallOutput, Turn
from pllm_notebook.sessions.documents import Documents
from pllm_notebook.sessions.session_files import append_lines, hash_of, make_directory

__all__ = ["MessageNode", "MessageTree", "Said", "render_tree", "render_tree_html"]

Said = Turn | str
"""A turn, or an instruction (a system prompt)."""

_MAX_LINES = 200
_MAX_CHARS = 72
_PRE = "font-size:12px;line-height:1.5;white-space:pre-wrap;margin:0"


@dataclass(frozen=True, slots=True)
class MessageNode:
    """One message and its place in the tree.

    Attributes:
        hash: sha256 of the parent's hash and the message, base64url.
        parent: Hash of the message before, None for the first.
        said: The message.
    """

    hash: str
    parent: str | None
    said: Said


class MessageTree:
    """All messages of one conversation. Thread-safe; nothing is ever removed.

    Args:
        path: Its file, created with the first message; None to keep it in memory.
        documents: Stores the images and PDFs of the messages; required with a *path*.

    Attributes:
        latest: Hash of the newest message, None for an empty tree.
    """

    def __init__(self, path: str | None = None, documents: Documents | None = None) -> None:
        self._path = path
        self._documents = documents
        self._lock = threading.Lock()
        self._nodes: dict[str, MessageNode] = {}
        self._children: dict[str | None, list[str]] = {}
        self.latest: str | None = None
        if path is not None and os.path.exists(path):
            self._load(path)

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, at: str) -> MessageNode:
        return self._nodes[at]

    def after(self, at: str | None) -> list[str]:
        """Return the hashes of the messages directly after *at*, oldest first; None for the first messages."""
        return list(self._children.get(at, ()))

    def path(self, at: str | None) -> list[MessageNode]:
        """Return the messages from the first to *at*."""
        found = []
        while at is not None:
            node = self._nodes[at]
            found.append(node)
            at = node.parent
        return found[::-1]

    def say(self, parent: str | None, said: Said) -> MessageNode:
        """Add a message after *parent*, and return its node, which for a known message is the existing one.

        Raises:
            UsageError: For text with a lone surrogate. Nothing was sent.
            StoreError: If the file cannot be written; the message is not added. Nothing was sent.
        """
        form = _form(said)
        try:
            at = hash_of(orjson.dumps([parent, form]))
        except TypeError as error:
            raise UsageError(f"The message is not valid text: {error}. Nothing was sent.") from error
        with self._lock:
            known = self._nodes.get(at)
            node = known or MessageNode(at, parent, self._one(said))
            if self._path is not None:
                line = {"at": at} if known else {"node": at, "parent": parent, "said": form}
                make_directory(os.path.dirname(self._path))
                append_lines(self._path, [orjson.dumps(line)])
            self._put(node)
        return node

    def __getstate__(self) -> dict[str, Any]:
        return {"nodes": list(self._nodes.values()), "latest": self.latest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]  # a copy in memory: the file belongs to its session
        for node in state["nodes"]:
            self._put(node)
        self.latest = state["latest"]

    def _put(self, node: MessageNode) -> None:
        if node.hash not in self._nodes:
            self._nodes[node.hash] = node
            self._children.setdefault(node.parent, []).append(node.hash)
        self.latest = node.hash

    def _one(self, said: Said) -> Said:
        """Store the media of a message, and return the message with one shared object for equal content."""
        if isinstance(said, str) or self._documents is None or not said.media:
            return said
        media = tuple(self._documents.keep_media(each)[0] for each in said.media)
        return Turn(said.role, said.text, media, said.calls, said.results, said.echo)

    def _load(self, path: str) -> None:
        """Read the file. A partial line is ignored, and so are messages whose parent is unknown."""
        with open(path, "rb") as file:
            for line in file:
                try:
                    node = orjson.loads(line)
                except ValueError:
                    continue
                if node.get("at") in self._nodes:
                    self.latest = node["at"]
                elif "node" in node and (node["parent"] is None or node["parent"] in self._nodes):
                    self._put(MessageNode(node["node"], node["parent"], self._read(node["said"])))

    def _read(self, form: str | Mapping[str, Any]) -> Said:
        if isinstance(form, str):
            return form
        echo = form.get("echo")
        return Turn(
            form["role"],
            form["text"],
            tuple(self._shown(each) for each in form.get("media", ())),
            tuple(ToolCall(*each) for each in form.get("calls", ())),
            tuple(ToolCallOutput(*each) for each in form.get("results", ())),
            None if echo is None else ProviderMessage(*echo),
        )

    def _shown(self, form: Mapping[str, str]) -> Media:
        assert self._documents is not None
        return self._documents.media(form["document"], Media(form["mime"], name=form["name"]))


def _form(said: Said) -> str | dict[str, Any]:
    """Return a message as JSON, with media by the hashes of their content."""
    if isinstance(said, str):
        return said
    form: dict[str, Any] = {"role": said.role, "text": said.text}
    if said.media:
        form["media"] = [{"document": _hash(each), "mime": each.mime, "name": each.name} for each in said.media]
    if said.calls:
        form["calls"] = [[each.id, each.name, each.arguments] for each in said.calls]
    if said.results:
        form["results"] = [[each.id, each.name, each.content, each.failed] for each in said.results]
    if said.echo is not None:
        form["echo"] = [said.echo.form, said.echo.content]
    return form


def _hash(media: Media) -> str:
    return hash_of(media.url.encode() if media.url else base64.b64decode(media.data))


# Display.


def render_tree(tree: MessageTree, here: str | None) -> str:
    """Draw a tree for a terminal: one line per message, indented at branches, ← at *here*."""
    lines = [f"{lead}{_text(node)}{'  ←' if node.hash == here else ''}" for lead, node in _lines(tree)]
    return "\n".join(lines + _rest(tree))


def render_tree_html(tree: MessageTree, here: str | None) -> str:
    """Draw a tree as HTML: the path to *here* in bold, the rest paler."""
    on_path = {node.hash for node in tree.path(here)}
    lines = [
        f"<span style='{'font-weight:600' if node.hash in on_path else 'opacity:0.6'}'>"
        f"{escape_html(lead)}{escape_html(_text(node))}{'  ←' if node.hash == here else ''}</span>"
        for lead, node in _lines(tree)
    ]
    return f"<pre style='{_PRE}'>{'<br>'.join(lines + _rest(tree))}</pre>"


def _lines(tree: MessageTree) -> Iterator[tuple[str, MessageNode]]:
    """Yield the messages in drawing order, each with its indentation.

    A message without siblings is not indented, so that a long conversation stays within the page.
    """
    waiting = [(at, "", "") for at in reversed(tree.after(None))]
    count = 0
    while waiting and count < _MAX_LINES:
        at, lead, below = waiting.pop()
        count += 1
        yield lead, tree[at]
        after = tree.after(at)
        if len(after) == 1:
            waiting.append((after[0], below, below))
        else:
            last = len(after) - 1
            waiting += [
                (each, f"{below}{'└─ ' if at == last else '├─ '}", f"{below}{'   ' if at == last else '│  '}")
                for at, each in reversed(list(enumerate(after)))
            ]


def _rest(tree: MessageTree) -> list[str]:
    left = len(tree) - _MAX_LINES
    return [f"… and {left:,} more"] if left > 0 else []


def _text(node: MessageNode) -> str:
    said = node.said
    if isinstance(said, str):
        role, parts = "system", [said]
    else:
        role = said.role
        parts = [f"[{media.name or media.url or media.mime}]" for media in said.media]
        parts += [said.text] if said.text else []
        parts += [f"{call.name}({call.arguments})" for call in said.calls]
        parts += [f"{result.name} gave {result.content}" for result in said.results]
    words = " ".join(strip_control_chars(" ".join(parts)).split())
    return f"{role}: {words if len(words) <= _MAX_CHARS else words[: _MAX_CHARS - 1] + '…'}"
