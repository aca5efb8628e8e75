"""The server process: one event loop, one port, and a control channel to the program that started it."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from pllm_notebook.sim.channel import PREFIX, frame
from pllm_notebook.sim.request_handler import RequestHandler
from pllm_notebook.sim.simulator_options import SimOptions, options_from

__all__ = ["serve"]

_BACKLOG = 4096
_LARGEST_BODY = 1 << 28


class Control:
    """The server's end of the control channel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0
        self._doing: set[asyncio.Task[None]] = set()
        self.request_handler = RequestHandler(SimOptions(), self.ask)

    def say(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self._writer.write(frame(message))

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call the program's `answers` function with *request*. Other requests continue in the meantime."""
        self._count += 1
        number = self._count
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self.say({"op": "ask", "id": number, "request": request})
        try:
            reply: dict[str, Any] = await answer
            return reply
        finally:
            del self._asked[number]

    async def listen(self) -> None:
        """Execute the program's commands until it closes the channel or exits."""
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(PREFIX), "big")
                message = orjson.loads(await self._reader.readexactly(size))
                if message["op"] == "answer":
                    waiting = self._asked.get(message["id"])
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message)
                else:
                    # In a separate task: the command may wait for answers that arrive here.
                    doing = asyncio.create_task(self._reply(message))
                    self._doing.add(doing)
                    doing.add_done_callback(self._doing.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    async def _reply(self, message: dict[str, Any]) -> None:
        self.say({"op": "reply", "id": message["id"], "reply": await self._do(message)})

    async def _do(self, message: dict[str, Any]) -> Any:
        op, request_handler = message["op"], self.request_handler
        if op == "set":
            return request_handler.set(options_from(message["options"]), message["scripted"], message["named"])
        if op == "stats":
            return await request_handler.stats()
        if op == "advance":
            return request_handler.backend.advance(message["seconds"])
        if op == "requests":
            return request_handler.request_log.last(message["limit"])
        return request_handler.reset()


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_LARGEST_BODY)


async def _run(fd: int) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=fd))
    control = Control(reader, writer)
    handler = web.Server(
        control.request_handler.handle,
        access_log=None,
        # A disconnecting client cancels its request, so that hanging, queued and slow requests do not accumulate.
        handler_cancellation=True,
        request_factory=_request,
        keepalive_timeout=600.0,
    )
    server = await asyncio.get_running_loop().create_server(handler, "127.0.0.1", 0, backlog=_BACKLOG)
    control.say({"op": "ready", "id": 0, "port": server.sockets[0].getsockname()[1]})
    await control.listen()


def serve(fd: int) -> None:
    """Serve until the control channel on *fd* is closed. Open connections are then dropped, not drained."""
    # The last requests stay in memory. With the default threshold the collector would scan them every 700 new objects.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(fd))
