"""Connect to Gemini through google-genai (the extra `google`)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from typing import Any

import orjson

from pllm_notebook.credentials import Address, Key
from pllm_notebook.exceptions import MissingPackageError
from pllm_notebook.failures import FailureKind
from pllm_notebook.protocols import TransportFault
from pllm_notebook.providers.client_copies import google_copy
from pllm_notebook.providers.client_faults import fault_of, what_broke
from pllm_notebook.providers.connections import RedirectRefused, session
from pllm_notebook.types import RawReply

__all__ = ["DECISIONS_PATH", "GenaiTransport", "connect"]

DECISIONS_PATH = "decisions"
"""The path of the decision endpoint, below the API's version."""

_DECISIONS_VERSION = "v1beta"


class GenaiTransport:
    """A transport that sends whole REST bodies through `aio.models.generate_content`.

    `extra_body` replaces the body that the SDK would build, so that its schema conversion, which loses recursion, never
    runs. `should_return_http_response` returns the response unchanged.

    Args:
        client: `google.genai.Client`.
        own_session: The aiohttp session of our own client, which the client itself does not close. None for a caller's
            client, which is copied (see `google_copy`).
    """

    def __init__(self, client: Any, own_session: Any = None) -> None:
        from google.genai import errors, types

        self._client = google_copy(client) if own_session is None else client
        self._types = types
        self._api_error = errors.APIError
        self._no_calls = types.AutomaticFunctionCallingConfig(disable=True)
        # Set for each request, so that it applies to a caller's own client too. By default the SDK waits up to 10 s
        # after a lost connection and sends the request again, without counting it.
        self._once = types.HttpRetryOptions(attempts=1)

    async def post(self, path: str, content: bytes) -> RawReply:
        types = self._types
        if path == DECISIONS_PATH:
            return await self._sent(self._decide(content))
        config = types.GenerateContentConfig(
            http_options=types.HttpOptions(extra_body=orjson.loads(content), retry_options=self._once),
            should_return_http_response=True,
            automatic_function_calling=self._no_calls,
            automatic_continuation=False,
        )
        model = path.removeprefix("models/").partition(":")[0]
        return await self._sent(self._generate(model, config))

    async def _generate(self, model: str, config: Any) -> Any:
        answer = await self._client.aio.models.generate_content(model=model, contents="-", config=config)
        return answer.sdk_http_response

    async def _decide(self, content: bytes) -> Any:
        # Called below the SDK's resource, which checks nothing and retries. The resource's default version, v1, has no
        # such endpoint.
        options = self._types.HttpOptions(api_version=_DECISIONS_VERSION, retry_options=self._once)
        inner = self._client._api_client
        return await inner.async_request("post", DECISIONS_PATH, orjson.loads(content), options)

    async def _sent(self, sending: Awaitable[Any]) -> RawReply:
        """Await a request and return its response, whatever the status."""
        try:
            response = await sending
        except self._api_error as error:
            headers = getattr(error.response, "headers", None) or {}
            body = orjson.dumps(error.details, default=str)
            return RawReply(int(error.code or 500), _lower(headers), body)
        except RedirectRefused as redirect:
            return RawReply(redirect.status, {"location": redirect.location}, b"")
        except (orjson.JSONDecodeError, json.JSONDecodeError) as error:  # the SDK parses error pages as JSON
            raise TransportFault(FailureKind.MALFORMED, what_broke(error)) from error
        except Exception as error:
            raise fault_of(error) from error
        return RawReply(200, _lower(response.headers or {}), (response.body or "").encode())

    async def aclose(self) -> None:
        # The copy of a caller's client has its own connections, so the caller's stay open.
        await self._client.aio.aclose()
        under = self._client._api_client._http_options.aiohttp_client
        if under is not None:
            await under.close()


def connect(key: Key, address: Address) -> GenaiTransport:
    """Open a client. Call it on the loop that will use it."""
    try:
        from google import genai
        from google.genai import types
    except ImportError:
        raise MissingPackageError("google", "google-genai", "google") from None
    under = session(address)
    options = types.HttpOptions(base_url=address or None, headers=address.headers(), aiohttp_client=under)
    return GenaiTransport(genai.Client(api_key=key.reveal(), http_options=options), under)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
