"""A response of any length costs a bounded amount of memory, and fails its own row with a clear message."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from aiohttp import web

import pllm_notebook as pllm
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.providers.batch.jsonl import MOST_LINE_BYTES, file_lines, objects
from pllm_notebook.providers.bounds import MOST_REPLY_BYTES
from tests.contract.scripts import words
from tests.contract.served import Served
from tests.contract.sides import ANTHROPIC, EVERY_SIDE, GOOGLE, Side
from tests.contract.test_ends import reply

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


@lru_cache
def bomb(size: int) -> bytes:
    """So many zeros, compressed a piece at a time."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    return b"".join(packer.compress(zeros) for _ in range(size // 2**20)) + packer.flush()


class Sends(Served):
    """Answers every request with one body, as it is."""

    def __init__(self, body: bytes, encoding: str = "", status: int = 200) -> None:
        super().__init__()
        self.body, self.encoding, self.status = body, encoding, status
        self.asked = 0
        self.accepted: set[str] = set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        self.asked += 1
        self.accepted.add(request.headers.get("accept-encoding", ""))
        headers = {"content-type": "application/json"}
        if self.encoding:
            headers["content-encoding"] = self.encoding
        return web.Response(status=self.status, body=self.body, headers=headers)


def reach(side: Side, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(side.key, "any-key")
    if side.address:
        monkeypatch.setenv(side.address, url if side in (ANTHROPIC, GOOGLE) else f"{url}/v1")
    else:
        pllm.configure(servers={side.provider: f"{url}/v1"})


@pytest.fixture
def traced() -> Iterator[None]:
    for sdk in ("openai", "anthropic", "google.genai"):
        import_module(sdk)  # what they take is not what a response takes
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("side", EVERY_SIDE, ids=lambda side: side.id, indirect=False)
@pytest.mark.sample(4)
def test_a_body_that_unfolds_to_gigabytes_is_cut_off_while_it_comes(
    side: Side, status: int, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, traced: None
) -> None:
    with Sends(bomb(2**28), "gzip", status) as server:
        reach(side, server.url, monkeypatch)
        tracemalloc.reset_peak()

        out = words("a").llm.complete("{text}", model=side.model, max_retries=0)

        assert tracemalloc.get_traced_memory()[1] < 5 * MOST_REPLY_BYTES
    assert out.llm.errors["kind"].tolist() == ["malformed_reply"]
    assert f"longer than {MOST_REPLY_BYTES:,} bytes" in out.llm.errors["message"][0]


@pytest.mark.parametrize("side", EVERY_SIDE, ids=lambda side: side.id, indirect=False)
def test_a_body_of_the_same_length_uncompressed_is_cut_off_too(
    side: Side, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sends(bytes(MOST_REPLY_BYTES + 1)) as server:
        reach(side, server.url, monkeypatch)

        out = words("a").llm.complete("{text}", model=side.model, max_retries=0)

    assert "was cut off" in out.llm.errors["message"][0]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate", ""])
@pytest.mark.parametrize("side", EVERY_SIDE, ids=lambda side: side.id, indirect=False)
@pytest.mark.sample(7)
def test_a_compressed_answer_is_read(
    side: Side, encoding: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = orjson.dumps(reply(side, None, "yes " * 10_000))
    packers = {"gzip": gzip.compress, "deflate": zlib.compress}
    if encoding == "raw deflate":
        packer = zlib.compressobj(wbits=-15)
        sent = packer.compress(body) + packer.flush()
    else:
        sent = packers.get(encoding, bytes)(body)
    with Sends(sent, encoding.removeprefix("raw ")) as server:
        reach(side, server.url, monkeypatch)

        out = words("a").llm.complete("{text}", model=side.model, max_retries=0)

        assert all("br" not in accepted and "zstd" not in accepted for accepted in server.accepted - {""}) or (
            side is GOOGLE
        )
    assert out["answer"].tolist() == ["yes " * 10_000]


@pytest.mark.parametrize("maker", ["openai", "anthropic"])
def test_a_callers_own_client_is_bounded_and_its_own_use_is_not_changed(
    maker: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk: Any = pytest.importorskip(maker)
    kind = sdk.AsyncOpenAI if maker == "openai" else sdk.AsyncAnthropic
    with Sends(bomb(2**28), "gzip") as server:
        own = httpx2.AsyncClient()
        client = kind(api_key="k", base_url=server.url, http_client=own)
        pllm.configure(clients={"own": client})

        out = words("a").llm.complete("{text}", model="own:m", max_retries=0)

    assert "was cut off" in out.llm.errors["message"][0]
    assert own.event_hooks["response"] == []
    assert "accept-encoding" in own.headers


def test_a_line_of_results_that_never_ends_costs_that_line_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def chunks() -> Any:
        yield b'{"a": 1}\n'
        for _ in range(MOST_LINE_BYTES // 2**20 + 2):
            yield bytes(2**20)
        yield b'\n{"b": 2}\n'

    async def read() -> list[dict[str, Any]]:
        return [line async for line in objects(chunks())]

    assert asyncio.run(read()) == [{"a": 1}, {"b": 2}]
    assert "was left out" in caplog.text


def test_a_file_with_an_endless_line_is_read_around_it(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x" * 1000 + b'\n{"b": 2}\n' + b"y" * 1000)

    with path.open("rb") as file:
        assert [line.strip() for line in file_lines(file, 100)] == [b'{"a": 1}', b"", b'{"b": 2}', b""]


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["open", "ended"])
@pytest.mark.parametrize(("length", "kept"), [(99, True), (100, True), (101, False), (102, False), (202, False)])
def test_a_line_of_as_many_bytes_as_are_allowed_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, length: int, kept: bool, end: bytes
) -> None:
    line = b"x" * length
    path = tmp_path / "results.jsonl"
    path.write_bytes(line + b"\n" + line + end)

    with path.open("rb") as file:
        read = list(file_lines(file, 100))

    assert read == ([line + b"\n", line + end] if kept else [b"\n", end])
    assert ("was left out" in caplog.text) is not kept


def test_what_a_failure_keeps_has_a_bound() -> None:
    failure = Failure(FailureKind.SCHEMA, "m" * 10**6, raw="r" * 10**6)

    assert len(failure.message) == 2_000
    assert len(failure.raw) == 100_000
    assert failure.message.endswith("…")
