"""How the providers' batch APIs send and read files of any size, through the real SDKs over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import logging
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pllm_notebook.failures import FailureKind
from pllm_notebook.protocols import BatchAPI, TransportFault
from pllm_notebook.types import Reply
from tests.contract.batch_accounts import (
    MODELS,
    NAMES,
    REPLIES,
    client_of,
    job_of,
    line_of,
    of_client,
    results_of,
    serving,
    target_of,
)
from tests.contract.batch_server import Asked, BatchServer, Torn
from tests.contract.test_batch_apis import with_api


@pytest.fixture(params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_stream_that_breaks_off_is_a_fault_after_what_it_brought(kind: str) -> None:
    torn = Torn([line_of(kind, 1), line_of(kind, 2), line_of(kind, 3)[:20]])
    brought: list[str] = []

    async def use(api: BatchAPI) -> None:
        async for result in api.results(await api.look(NAMES[kind])):
            brought.append(result.custom_id)

    with BatchServer(serving(kind, torn)) as server, pytest.raises(TransportFault):
        with_api(target_of(kind, server), use)

    assert brought == ["p1-1", "p1-2"]


def test_a_last_line_without_its_end_counts_if_it_is_whole(kind: str) -> None:
    results = results_of(kind, Torn([line_of(kind, 1), line_of(kind, 2).rstrip()], whole=True))

    assert [result.custom_id for result in results] == ["p1-1", "p1-2"]


def test_a_last_line_that_is_cut_is_a_fault(kind: str) -> None:
    with pytest.raises(TransportFault, match="the results end in the middle of a line") as caught:
        results_of(kind, Torn([line_of(kind, 1), line_of(kind, 2)[:20]], whole=True))

    assert caught.value.kind == FailureKind.MALFORMED


def test_a_line_that_is_none_is_logged_and_left_out(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pllm_notebook"):
        results = results_of(kind, Torn([line_of(kind, 1), b"<html>\n", b"3\n", b"\n", line_of(kind, 2)], whole=True))

    assert [result.custom_id for result in results] == ["p1-1", "p1-2"]
    assert [record.message for record in caplog.records if record.name == "pllm_notebook"] == [
        "A line of a batch job's results is not a JSON object and was left out"
    ] * 2


def test_half_a_character_is_read_as_one_that_is_missing(kind: str) -> None:
    half = orjson.dumps(REPLIES[kind]).replace(b"yes", b"\\ud83d")
    target = of_client(kind, client_of(kind, "http://127.0.0.1:9"))

    first, second = results_of(kind, Torn([line_of(kind, 1, half), line_of(kind, 2)], whole=True))

    assert first.raw is not None
    assert second.raw is not None
    reply = target.read(first.raw)
    assert isinstance(reply, Reply)
    assert (first.custom_id, reply.text) == ("p1-1", "\ufffd")
    assert isinstance(target.read(second.raw), Reply)


async def endless(kind: str) -> AsyncIterator[bytes]:
    for number in itertools.count(1):
        yield line_of(kind, number) * 100
        await asyncio.sleep(0)


def test_who_stops_reading_closes_the_stream(kind: str) -> None:
    async def use(api: BatchAPI) -> tuple[str, int]:
        results = api.results(await api.look(NAMES[kind]))
        first = await anext(results)
        await results.aclose()  # type: ignore[attr-defined]
        # Other requests on the same client give the server time to see it.
        for _ in range(200):
            if not server.left:
                await api.look(NAMES[kind])
        return first.custom_id, server.left

    with BatchServer(serving(kind, lambda: endless(kind))) as server:
        first, left = with_api(target_of(kind, server), use)

    assert first == "p1-1"
    assert left == 1


def test_who_reads_slowly_is_sent_no_more_than_there_is_room_for(kind: str) -> None:
    async def use(api: BatchAPI) -> int:
        results = api.results(await api.look(NAMES[kind]))
        tracemalloc.start()
        try:
            await anext(results)
            for _ in range(100):
                await api.look(NAMES[kind])
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            await results.aclose()  # type: ignore[attr-defined]

    with BatchServer(serving(kind, lambda: endless(kind))) as server:
        peak = with_api(target_of(kind, server), use)

    # Google's SDK reads 1 MB at a time.
    assert peak < 16_000_000


def test_many_results_are_held_one_at_a_time(kind: str) -> None:
    async def many() -> AsyncIterator[bytes]:
        for start in range(0, 20_000, 100):
            yield b"".join(line_of(kind, number) for number in range(start, start + 100))

    async def use(api: BatchAPI) -> tuple[int, int]:
        job = await api.look(NAMES[kind])
        tracemalloc.start()
        try:
            count = 0
            async for _ in api.results(job):
                count += 1
            return count, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with BatchServer(serving(kind, many)) as server:
        count, peak = with_api(target_of(kind, server), use)

    # The lines are 3 MB together; Google's SDK may hold a piece of 1 MB, and all hold their modules.
    assert count == 20_000
    assert peak < 3_000_000


def test_a_large_file_is_sent_in_pieces(kind: str, tmp_path: Path) -> None:
    lines = tmp_path / "requests.jsonl"
    with lines.open("wb") as file:
        for number in range(40_000):
            file.write(b'{"custom_id":"p1-%d","x":"%s"}\n' % (number, b"x" * 1000))
    size = lines.stat().st_size

    def answer(asked: Asked) -> Any:
        if asked.headers.get("x-goog-upload-command") == "start":
            return 200, {"headers": {"x-goog-upload-url": f"{server.url}/put?upload_id=1"}}
        if "x-goog-upload-command" in asked.headers:
            final = "finalize" in asked.headers["x-goog-upload-command"]
            about = {"x-goog-upload-status": "final" if final else "active"}
            return 200, {"file": {"name": "files/1"}, "headers": about}
        return 200, job_of(kind, id="1") if kind == "anthropic" else {"id": "1"}

    async def use(api: BatchAPI) -> tuple[str, int]:
        tracemalloc.start()
        try:
            if kind == "anthropic":
                return (await api.create(lines, "", "label")).id, tracemalloc.get_traced_memory()[1]
            return await api.upload(lines, "label"), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with BatchServer(answer) as server:
        name, peak = with_api(target_of(kind, server), use)

    # Google's SDK sends 8 MB at a time.
    assert name == ("files/1" if kind == "google" else "1")
    assert sum(server.sizes) >= size
    assert peak < (30_000_000 if kind == "google" else 8_000_000)


@pytest.mark.parametrize("end", [b"\n", b""], ids=["ended", "open"])
def test_anthropics_lines_become_one_request_of_a_known_size(end: bytes, tmp_path: Path) -> None:
    lines = tmp_path / "requests.jsonl"
    lines.write_bytes(b'{"custom_id":"a","params":{}}\n{"custom_id":"b","params":{}}' + end)

    with BatchServer(lambda _: (200, job_of("anthropic"))) as server:
        with_api(target_of("anthropic", server), lambda api: api.create(lines, "", ""))

    (asked,) = server.asked
    assert orjson.loads(asked.body) == {
        "requests": [{"custom_id": "a", "params": {}}, {"custom_id": "b", "params": {}}]
    }
    assert asked.headers["content-length"] == str(len(asked.body))
    assert "transfer-encoding" not in asked.headers
