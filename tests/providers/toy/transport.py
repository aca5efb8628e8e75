"""Connect to Toy: one POST for each call, over aiohttp."""

from __future__ import annotations

from pllm_notebook.credentials import Address, Key
from pllm_notebook.providers.client_faults import fault_of
from pllm_notebook.providers.connections import session
from pllm_notebook.types import RawReply


class ToyTransport:
    """One connection pool, which sends each request once."""

    def __init__(self, key: Key, address: Address) -> None:
        self._address = address or "https://api.toy.example"
        self._session = session(self._address)
        self._headers = {"authorization": f"Toy {key.reveal()}", "content-type": "application/json"}

    async def post(self, path: str, content: bytes) -> RawReply:
        try:
            async with self._session.post(
                self._address + path, data=content, headers=self._headers, allow_redirects=False
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return RawReply(response.status, headers, await response.read())
        except Exception as error:
            raise fault_of(error) from error

    async def aclose(self) -> None:
        await self._session.close()


def connect(key: Key, address: Address) -> ToyTransport:
    """Open a transport. Call it on the loop that will use it."""
    return ToyTransport(key, address)
