"""Everything that an SDK may do by itself, with what is allowed, looked at on the SDKs' own objects and on the wire."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

import pllm_notebook as pllm
from pllm_notebook.providers import ResolvedModel, resolve
from pllm_notebook.types import RawReply
from tests.contract.batch_accounts import MODELS, REPLIES, client_of
from tests.contract.batch_server import BatchServer
from tests.contract.scripts import words
from tests.contract.test_batch_apis import with_api

# What an SDK may do unasked, and what we allow. Each line has a test below, or names the file that has it.
HABITS = {
    "follow redirects": "never: tests/contract/test_redirects.py",
    "send again": "never a live call or a batch request; a piece of an upload alone, which says where it belongs",
    "use the environment's proxies": "yes, as a company's network needs it",
    "send a login of ~/.netrc": "never",
    "keep cookies": "never",
    "read settings from the environment": "the address and the key, and of Google whether it is Vertex",
    "report to a tracing service": "never by a client of ours; a caller's own client keeps its settings",
    "write logs": "under its own logger, with keys taken out",
    "name itself and this machine": "in headers: its version, Python's, the operating system's",
}


def ours(kind: str, url: str, monkeypatch: pytest.MonkeyPatch) -> ResolvedModel:
    monkeypatch.setenv(f"{kind.upper()}_API_KEY", "sk-canary-key-0123456789")
    monkeypatch.setenv(f"{kind.upper()}_BASE_URL", url)
    return resolve(f"{kind}:{MODELS[kind]}", servers={}, clients={}, keys={}, simulator=str)


def opened(target: ResolvedModel, use: Any) -> Any:
    """Open a transport as the engine does, on a loop, and look at it."""

    async def main(api: Any) -> Any:
        transport = api._account._transport
        return await use(transport)

    return with_api(target, main)


def sent(target: ResolvedModel, times: int = 1) -> list[RawReply]:
    """Send a call as often as is said, by one transport."""

    async def post(transport: Any) -> list[RawReply]:
        return [await transport.post(target.path, b"{}") for _ in range(times)]

    return opened(target, post)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
@pytest.mark.parametrize("kind", MODELS)
def test_no_sdk_sends_a_call_again(kind: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with BatchServer(lambda _: (status, {"headers": {"retry-after": "0", "x-should-retry": "true"}})) as server:
        for target in (ours(kind, server.url, monkeypatch), _callers(kind, server.url)):
            (reply,) = sent(target)

            assert reply.status == status

    assert len(server.asked) == 2


@pytest.mark.parametrize("kind", MODELS)
def test_no_sdk_keeps_a_cookie(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with BatchServer(lambda _: (200, {**REPLIES[kind], "headers": {"set-cookie": "who=me; Path=/"}})) as server:
        sent(ours(kind, server.url, monkeypatch), times=2)

    assert ["cookie" in asked.headers for asked in server.asked] == [False, False]


@pytest.mark.parametrize("kind", MODELS)
def test_the_environments_proxy_is_used_and_a_netrc_is_not(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password hidden-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with BatchServer(lambda _: (200, REPLIES[kind])) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        sent(ours(kind, "http://provider.invalid", monkeypatch))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        sent(ours(kind, proxy.url, monkeypatch))

    assert [asked.headers["host"].startswith("provider.invalid") for asked in proxy.asked] == [True, False]
    assert not any("Basic" in value for asked in proxy.asked for value in asked.headers.values())


def test_the_settings_of_a_client_of_ours_say_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def client_of_ours(transport: Any) -> Any:
        return transport._client

    for kind in ("openai", "anthropic"):
        client = opened(ours(kind, "http://127.0.0.1:9", monkeypatch), client_of_ours)
        assert (client._client.follow_redirects, client.max_retries) == (False, 0)
        assert client._client.cookies.jar._policy.allowed_domains() == ()
        if kind == "anthropic":
            assert client.open_telemetry["traces"]["enabled"] is False


def test_googles_session_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    async def session(transport: Any) -> Any:
        return transport._client._api_client._http_options.aiohttp_client

    found = opened(ours("google", "http://127.0.0.1:9", monkeypatch), session)

    assert isinstance(found.cookie_jar, aiohttp.DummyCookieJar)
    assert found.trust_env is False
    assert found.closed  # with its transport


@pytest.mark.parametrize("kind", MODELS)
def test_what_an_sdk_logs_has_no_key(
    kind: str, caplog: pytest.LogCaptureFixture, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("openai", "anthropic", "google_genai", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    with BatchServer(lambda _: (200, REPLIES[kind])) as server:
        ours(kind, server.url, monkeypatch)

        words("a").llm.complete("{text}", model=f"{kind}:{MODELS[kind]}")

    assert "canary-key" not in caplog.text


def test_a_client_of_the_callers_is_never_changed(cache_dir: Path) -> None:
    with BatchServer(lambda _: (200, REPLIES["openai"])) as server:
        client = openai.AsyncOpenAI(api_key="k", base_url=server.url, max_retries=7)
        before = dict(vars(client))
        pllm.configure(clients={"own": client})

        words("a").llm.complete("{text}", model="own:m")

    assert {name: value for name, value in vars(client).items() if name in before} == before
    assert (client.max_retries, client._client.follow_redirects) == (7, True)


@pytest.mark.parametrize("kind", MODELS)
def test_settings_of_the_environment_do_not_lead_a_key_to_another_address(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BatchServer(lambda _: (200, REPLIES[kind])) as trap, BatchServer(lambda _: (200, REPLIES[kind])) as server:
        for name in (
            "OPENAI_API_BASE",
            "AZURE_OPENAI_ENDPOINT",
            "GOOGLE_GEMINI_BASE_URL",
            "ANTHROPIC_BEDROCK_BASE_URL",
        ):
            monkeypatch.setenv(name, trap.url)

        sent(ours(kind, server.url, monkeypatch))

    assert (len(trap.asked), len(server.asked)) == (0, 1)


def _callers(kind: str, url: str) -> ResolvedModel:
    return resolve(f"own:{MODELS[kind]}", servers={}, clients={"own": client_of(kind, url)}, keys={}, simulator=str)
