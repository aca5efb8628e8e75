"""What a client raises itself is of the connection or of signing in, whatever a notebook did with it before."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import types

import pllm_notebook as pllm
from pllm_notebook.exceptions import ProviderRejectedError, UsageError
from tests.contract.batch_accounts import MODELS, REPLIES, client_of
from tests.contract.batch_server import BatchServer
from tests.contract.scripts import words

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class SignInFailed(Exception):
    """What a cloud's library might raise."""


def rows(count: int) -> Any:
    return words(*(f"row {n}" for n in range(count)))


def answering(kind: str) -> BatchServer:
    return BatchServer(lambda _: (200, REPLIES[kind]))


def test_a_token_provider_that_always_fails_is_told_once(cache_dir: Path) -> None:
    async def no_token() -> str:
        raise SignInFailed("the metadata service says no")

    with answering("openai") as server:
        pllm.configure(clients={"own": openai.AsyncOpenAI(api_key=no_token, base_url=server.url)})

        with pytest.raises(ProviderRejectedError) as caught:
            rows(40).llm.complete("{text}", model="own:m", max_retries=1)

    assert (caught.value.kind, caught.value.status) == ("authentication", None)
    assert "SignInFailed: the metadata service says no" in str(caught.value)
    assert server.asked == []


def test_a_token_provider_that_fails_now_and_then_loses_no_row(cache_dir: Path) -> None:
    asked = 0

    async def flaky_token() -> str:
        nonlocal asked
        asked += 1
        if asked % 3 == 0:
            raise SignInFailed("busy")
        return "a-token"

    with answering("openai") as server:
        pllm.configure(clients={"own": openai.AsyncOpenAI(api_key=flaky_token, base_url=server.url)})

        out = rows(40).llm.complete("{text}", model="own:m", max_retries=9)

    assert out["answer"].notna().all()
    assert len(server.asked) == 40


CLIENTS: dict[str, Any] = {
    "openai": lambda url: openai.AsyncOpenAI(api_key="k", base_url=url),
    "openai over aiohttp": lambda url: openai.AsyncOpenAI(
        api_key="k", base_url=url, http_client=openai.DefaultAioHttpClient()
    ),
    "openai over httpx": lambda url: openai.AsyncOpenAI(
        api_key="k", base_url=url, http_client=httpx2.AsyncClient(headers={"x-own": "1"})
    ),
    "anthropic": lambda url: anthropic.AsyncAnthropic(api_key="k", base_url=url),
    "google": lambda url: genai.Client(api_key="k", http_options=types.HttpOptions(base_url=url)),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_that_a_notebook_uses_too_answers_both(name: str, cache_dir: Path) -> None:
    kind = name.partition(" ")[0]
    with answering(kind) as server:
        client = CLIENTS[name](server.url)

        async def by_hand() -> None:
            if kind == "openai":
                await client.chat.completions.create(model="m", messages=[])
            elif kind == "anthropic":
                await client.messages.create(model="m", messages=[], max_tokens=5)
            else:
                await client.aio.models.generate_content(model="m", contents="hello")

        with asyncio.Runner() as cell:  # one loop for the whole notebook, as a kernel has it
            cell.run(by_hand())
            pllm.configure(clients={"own": client})
            out = rows(40).llm.complete("{text}", model="own:m", max_retries=0)
            cell.run(by_hand())
            cell.run(client.aio.aclose() if kind == "google" else client.close())

    assert out["answer"].tolist() == ["yes"] * 40
    assert len(server.asked) == 42
    if name.endswith("httpx"):
        assert all(asked.headers.get("x-own") == "1" for asked in server.asked)


def test_what_cannot_be_copied_is_told_before_anything_is_sent(cache_dir: Path) -> None:
    closed = openai.AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:9")
    asyncio.run(closed.close())
    pllm.configure(clients={"own": closed})

    with pytest.raises(UsageError, match=r"The AsyncOpenAI in clients= is closed.* Nothing was sent\."):
        rows(1).llm.complete("{text}", model="own:m")


@pytest.mark.parametrize("kind", MODELS)
def test_large_headers_are_read(kind: str, cache_dir: Path) -> None:
    policy = {"content-security-policy": "x" * 60_000}
    with BatchServer(lambda _: (200, {**REPLIES[kind], "headers": policy})) as server:
        pllm.configure(clients={"own": client_of(kind, server.url)}, servers={"mine": server.url})

        own = rows(1).llm.complete("{text}", model=f"own:{MODELS[kind]}", max_retries=0)
        ours = rows(1).llm.complete("{text}", model="mine:m", max_retries=0) if kind == "openai" else own

    # A client over httpx has that library's own limit, which is larger.
    assert (own["answer"].tolist(), ours["answer"].tolist()) == (["yes"], ["yes"])


@pytest.fixture(params=[b"HELLO WORLD\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b""])
def nonsense(request: pytest.FixtureRequest) -> Iterator[str]:
    """A port that speaks something else: TLS's alert to plain HTTP, a broken status line, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(request.param)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.sample(8)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["mine", "anthropic", "google", "own"])
def test_a_port_that_speaks_something_else_is_a_connection_failure(
    kind: str, scheme: str, nonsense: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{scheme}://{nonsense}"
    for provider in ("ANTHROPIC", "GOOGLE"):
        monkeypatch.setenv(f"{provider}_API_KEY", "k")
        monkeypatch.setenv(f"{provider}_BASE_URL", url)
    pllm.configure(servers={"mine": url}, clients={"own": client_of("openai", url)})

    out = rows(1).llm.complete("{text}", model=f"{kind}:m", max_retries=1)

    (failed,) = out.llm.errors.to_dict("records")
    assert (failed["kind"], failed["attempts"]) == ("connection", 2)
    assert "ConnectTimeout" not in failed["message"]
