"""Isolation of a block from the machine's settings, cache and network."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from pllm_notebook import settings
from pllm_notebook.exceptions import PllmError
from pllm_notebook.store import close_stores

__all__ = ["NetworkClosedError", "throwaway_settings"]

_MODEL = "openai:gpt-6-luna"


class NetworkClosedError(PllmError, OSError):
    """A connection to another machine was attempted inside `fake`."""


@contextmanager
def throwaway_settings(*, network: bool) -> Iterator[None]:
    """Use an empty cache inside the block, and restore the settings after it."""
    before = settings.current()
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pllm-fake-", ignore_cleanup_errors=True))
        stack.callback(close_stores)
        stack.callback(settings.restore, before)
        model = before.options.get("model") or os.environ.get("PLLM_MODEL") or _MODEL
        settings.configure(cache_dir=directory, cache_share=None, progress=False, model=model)
        if not network:
            stack.enter_context(_closed_network())
        yield


@contextmanager
def _closed_network() -> Iterator[None]:
    """Refuse connections to other machines, but allow those to kernels and databases on this one."""
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(host: object) -> None:
        if not _is_here(host):
            raise NetworkClosedError(f"A connection to {host!r} was attempted inside fake(). network=True allows it.")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            refuse(address[0])
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            refuse(address[0])
        return connect_ex(self, address)

    def guarded_look_up(host: Any, *args: Any, **also: Any) -> Any:
        refuse(host)
        return look_up(host, *args, **also)

    with (
        mock.patch.object(socket.socket, "connect", guarded_connect),
        mock.patch.object(socket.socket, "connect_ex", guarded_connect_ex),
        mock.patch.object(socket, "getaddrinfo", guarded_look_up),
    ):
        yield


def _is_here(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False
