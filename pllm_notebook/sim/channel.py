"""The control channel between a program and its simulator: JSON frames over a socket pair."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

import orjson

__all__ = ["Channel", "frame"]

# Every frame is a length in 4 bytes, big-endian, followed by that many bytes of JSON.
PREFIX = 4


def frame(message: dict[str, Any]) -> bytes:
    """Encode *message* as a frame."""
    body = orjson.dumps(message)
    return len(body).to_bytes(PREFIX, "big") + body


class Channel:
    """The program's end of the channel. Sending is thread-safe; only one thread receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message. Raises OSError if the other end is closed."""
        data = frame(message)
        with self._sending:
            self._socket.sendall(data)

    def receive(self) -> dict[str, Any] | None:
        """Wait for one message and return it, or None if the other end is closed."""
        head = self._exactly(PREFIX)
        body = self._exactly(int.from_bytes(head, "big")) if head else None
        return orjson.loads(body) if body is not None else None

    def close(self) -> None:
        """Close the channel for both sides. A thread that is receiving returns."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def forget(self) -> None:
        """Close only this process's copy. For a forked child whose parent still uses the channel."""
        self._socket.close()

    def _exactly(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            try:
                part = self._socket.recv(size - len(parts))
            except OSError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)
