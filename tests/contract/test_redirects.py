"""A redirect is followed by no request, whoever made the client: no key and no row reaches the other host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai
import orjson
import pytest
from google import genai
from google.genai import types
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook import OAIApiFromFileConfig, process_api_requests_from_file_sync
from pllm_notebook.exceptions import ProviderRejectedError
from pllm_notebook.protocols import BatchAPI, BatchRefused
from pllm_notebook.providers import ResolvedModel, resolve
from pllm_notebook.types import RemoteJob
from tests.contract.batch_accounts import MODELS, client_of
from tests.contract.batch_server import Asked, BatchServer
from tests.contract.scripts import words
from tests.contract.test_batch_apis import with_api

KEY = "sk-canary-key-0123456789"
STATUSES = (301, 302, 303, 307, 308)


@pytest.fixture
def trap() -> Iterator[BatchServer]:
    """Another host, which would answer anything and records every byte."""
    with BatchServer(lambda _: (200, {"choices": [{"message": {"content": "stolen"}, "finish_reason": "stop"}]})) as it:
        yield it


def redirecting(trap: BatchServer, status: int) -> BatchServer:
    """The provider's address, which redirects everything; the location has a secret in its query."""

    def answer(asked: Asked) -> Any:
        # Another name is another host, also to what compares origins by host alone.
        there = trap.url.replace("127.0.0.1", "localhost")
        return status, {"headers": {"location": f"{there}/there?token=hidden-secret"}}

    return BatchServer(answer)


@pytest.fixture(params=["ours", "callers"])
def whose(request: pytest.FixtureRequest) -> str:
    return request.param


def reach_it(kind: str, whose: str, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have a provider asked at *url*, by a client of ours or by a caller's; give the model."""
    if whose == "callers":
        pllm.configure(clients={"own": client_of(kind, url)})
        return f"own:{MODELS[kind]}"
    monkeypatch.setenv(f"{kind.upper()}_API_KEY", KEY)
    monkeypatch.setenv(f"{kind.upper()}_BASE_URL", url)
    return f"{kind}:{MODELS[kind]}"


@pytest.mark.sample(12)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("kind", MODELS)
def test_a_live_request_is_not_redirected(
    kind: str, whose: str, status: int, trap: BatchServer, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redirecting(trap, status) as server:
        model = reach_it(kind, whose, server.url, monkeypatch)

        with pytest.raises(ProviderRejectedError) as caught:
            words("a row's own words").llm.complete("{text}", model=model)

    assert (trap.asked, len(server.asked)) == ([], 1)
    assert (caught.value.kind, caught.value.status) == ("rejected", status)
    assert f"redirects to {trap.url.replace('127.0.0.1', 'localhost')}/there." in str(caught.value)
    assert "hidden-secret" not in str(caught.value)


class Mood(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]


@pytest.mark.sample(8)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("kind", ["openai", "google", "systemone", "sglang"])
def test_a_decision_is_not_redirected(
    kind: str, status: int, trap: BatchServer, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redirecting(trap, status) as server:
        if kind in MODELS:
            model = reach_it(kind, "ours", server.url, monkeypatch)
        else:
            pllm.configure(servers={"mine": server.url}, decision_formats={"mine": kind})
            monkeypatch.setenv("MINE_API_KEY", KEY)
            model = "mine:small"

        with pytest.raises(ProviderRejectedError, match="redirects to"):
            words("a row's own words").llm.parse(Mood, "{text}", model=model, probabilities="decisions")

    assert (trap.asked, len(server.asked)) == ([], 1)


@pytest.mark.parametrize("status", [302, 307])
def test_a_line_of_a_request_file_is_not_redirected(
    status: int, trap: BatchServer, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "requests.jsonl"
    line = {"model": MODELS["openai"], "messages": [{"role": "user", "content": "a row's own words"}]}
    path.write_bytes(orjson.dumps(line))
    with redirecting(trap, status) as server:
        reach_it("openai", "ours", server.url, monkeypatch)

        process_api_requests_from_file_sync(
            OAIApiFromFileConfig(requests_filepath=path, client="openai", progress=False)
        )

    assert (trap.asked, len(server.asked)) == ([], 1)


@pytest.mark.sample(12)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("what", ["upload", "create", "look", "recent", "results", "cancel", "discard"])
@pytest.mark.parametrize("kind", MODELS)
def test_no_request_of_a_batch_is_redirected(
    kind: str, whose: str, what: str, status: int, trap: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(b'{"row": "a row\'s own words"}\n')
    if kind == "anthropic" and what in ("upload", "discard"):
        return  # it has no files: the requests go along with the creation

    async def use(api: BatchAPI) -> None:
        job = RemoteJob("batches/1", "ended", files=("files/1" if kind != "anthropic" else f"{server.url}/results",))
        if what == "upload":
            await api.upload(lines, "label")
        elif what == "create":
            await api.create(lines, "files/1", "label")
        elif what == "look":
            await api.look("batches/1")
        elif what == "recent":
            [each async for each in api.recent(0.0)]
        elif what == "results":
            [each async for each in api.results(job)]
        elif what == "cancel":
            await api.cancel("batches/1")
        else:
            await api.discard("files/1")

    with redirecting(trap, status) as server, pytest.raises(BatchRefused) as caught:
        with_api(_target(kind, whose, server.url, monkeypatch), use)

    assert trap.asked == []
    assert "hidden-secret" not in caught.value.message
    assert caught.value.status == status


def _target(kind: str, whose: str, url: str, monkeypatch: pytest.MonkeyPatch) -> ResolvedModel:
    if whose == "callers":
        clients = {"own": client_of(kind, url)}
        return resolve(f"own:{MODELS[kind]}", servers={}, clients=clients, keys={}, simulator=str)
    monkeypatch.setenv(f"{kind.upper()}_API_KEY", KEY)
    monkeypatch.setenv(f"{kind.upper()}_BASE_URL", url)
    return resolve(f"{kind}:{MODELS[kind]}", servers={}, clients={}, keys={}, simulator=str)


def test_an_upload_that_google_would_send_in_pieces_is_not_redirected(
    whose: str, trap: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(b'{"row": 1}\n')

    def answer(asked: Asked) -> Any:
        if "upload_id" in asked.path:
            return 307, {"headers": {"location": f"{trap.url}/there"}}
        return 200, {"headers": {"x-goog-upload-url": f"{server.url}/upload?upload_id=1"}}

    with BatchServer(answer) as server:
        target = _target("google", whose, server.url, monkeypatch)
        with pytest.raises(BatchRefused) as caught:
            with_api(target, lambda api: api.upload(lines, "label"))

    assert trap.asked == []
    assert caught.value.status == 307


def test_clients_over_other_http_libraries_are_not_redirected(trap: BatchServer, cache_dir: Path) -> None:
    with redirecting(trap, 307) as server:
        over_httpx = types.HttpOptions(
            base_url=server.url, async_client_args={"transport": httpx2.AsyncHTTPTransport()}
        )
        clients = {
            "aio": openai.AsyncOpenAI(api_key="k", base_url=server.url, http_client=openai.DefaultAioHttpClient()),
            "httpx": openai.AsyncOpenAI(
                api_key="k", base_url=server.url, http_client=httpx2.AsyncClient(follow_redirects=True)
            ),
            "azure": openai.AsyncAzureOpenAI(azure_endpoint=server.url, api_key="k", api_version="2025-04-01-preview"),
            "gemini": genai.Client(api_key="k", http_options=over_httpx),
        }
        pllm.configure(clients=clients)

        for name in clients:
            with pytest.raises(ProviderRejectedError, match="redirects to"):
                words("a").llm.complete("{text}", model=f"{name}:some-model")

    assert trap.asked == []
    assert len(server.asked) == len(clients)
