"""Convert turns back to messages: plain JSON in OpenAI's format, which can be read again without loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pllm_notebook.media import load_media
from pllm_notebook.messages.parts import as_json
from pllm_notebook.messages_types import Media, Turn

__all__ = ["write_content", "write_messages"]


def write_messages(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    """Write turns as messages of plain JSON.

    Two fields are additions to OpenAI's format: `echo` of an assistant message, which is the same message in its
    provider's format, and `failed` of a tool result.
    """
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "tool":
            for result in turn.results:
                answer = {
                    "role": "tool",
                    "tool_call_id": result.id,
                    "name": result.name,
                    "content": result.content,
                }
                messages.append(answer | ({"failed": True} if result.failed else {}))
            continue
        shown = [_shown(media) for media in turn.media]
        content: Any = [*shown, {"type": "text", "text": turn.text}] if shown and turn.text else shown or turn.text
        message: dict[str, Any] = {"role": turn.role, "content": content}
        if turn.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in turn.calls
            ]
        if turn.echo is not None:
            message["echo"] = {"form": turn.echo.form, "content": turn.echo.content}
        messages.append(message)
    return messages


def write_content(content: Any) -> Any:
    """Return a message's content as plain JSON. Images, bytes and paths become parts that contain the file.

    Parts that are already JSON are not changed, in any provider's format.

    Raises:
        UsageError: For a file that cannot be read, or is neither an image nor a PDF. Nothing was sent.
    """
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        return [_plain(part) for part in content]
    return [_plain(content)]


def _plain(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        return _shown(load_media(part))
    for name in ("image", "document", "file"):
        if name in part and not isinstance(part[name], (str, Mapping)):
            return _shown(load_media(part[name]))
    return as_json(part)


def _shown(media: Media) -> dict[str, Any]:
    where = media.url or f"data:{media.mime};base64,{media.data}"
    if media.mime.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": where}}
    return {"type": "file", "file": {"file_data": where, "filename": media.name}}
