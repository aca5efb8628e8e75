"""CPU cost of a live call in the client process, at zero latency.

    python benchmarks/calls.py [--calls 3000] [--times 5] [--concurrency 64 256] [--parts]

The calls go to the simulator on loopback, whose separate process is not counted. For OpenAI and Anthropic, four clients
take turns in one process: raw aiohttp; the official SDK's raw `post` of a prepared body over its aiohttp transport (the
floor: nothing that uses the SDK can cost less); the SDK's `create`; and this package, from a row to a column. Figures
are medians. Ratios are computed within each round, since the machine's speed drifts. The store's idle thread finishes
its cleanup before the other clients are measured, so that its work is not counted as theirs.

`--parts` divides this package's cost: the CPU time of each thread by its own clock, and, for the engine's thread, the
cost of the SDK's `post` of the same bytes on a loop that does nothing else. The rest of that thread is the dispatcher,
decoding, bookkeeping and garbage collection.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import orjson
import pandas as pd
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.credentials import Address, Key
from pllm_notebook.execution.asked_model import start_simulator
from pllm_notebook.execution.launch import build_spec, options_for
from pllm_notebook.schema import OutputType

Send = Callable[[], Awaitable[Any]]


class Review(BaseModel):
    """Facts stated in a product review."""

    product: str
    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5)


def body_of(provider: str) -> dict[str, Any]:
    spec = build_spec(options_for({"model": f"sim:{provider}"}), OutputType.of(Review), instruct=False)
    body: dict[str, Any] = orjson.loads(spec.content(b'"Read:\\nreview number 1"'))
    return body


async def spread(send: Send, calls: int, concurrency: int) -> float:
    """Return the CPU seconds of *calls* calls, *concurrency* at once."""
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await send()

    start = time.process_time()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return time.process_time() - start


async def with_client(kind: str, provider: str, calls: int, concurrency: int) -> float:
    body, address = body_of(provider), start_simulator().base_url(provider)
    if kind == "aiohttp":
        import aiohttp

        path = "/chat/completions" if provider == "openai" else "/v1/messages"
        headers = {"Content-Type": "application/json", "Authorization": "Bearer x", "anthropic-version": "2026-10-21"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000), headers=headers) as session:

            async def raw() -> None:
                async with session.post(address + path, data=orjson.dumps(body)) as response:
                    orjson.loads(await response.read())

            await spread(raw, concurrency, concurrency)
            return await spread(raw, calls, concurrency)
    import httpx2

    if provider == "openai":
        import openai

        client: Any = openai.AsyncOpenAI(
            api_key="x", base_url=address, max_retries=0, http_client=openai.DefaultAioHttpClient()
        )
        path, create = "/chat/completions", client.chat.completions.create
    else:
        import anthropic

        client = anthropic.AsyncAnthropic(
            api_key="x", base_url=address, max_retries=0, http_client=anthropic.DefaultAioHttpClient()
        )
        path, create = "/v1/messages", client.messages.create
    sends: dict[str, Send] = {
        "post": lambda: client.post(path, cast_to=httpx2.Response, body=body),
        "create": lambda: create(**body),
    }
    async with client:
        await spread(sends[kind], concurrency, concurrency)
        return await spread(sends[kind], calls, concurrency)


def ours(provider: str, calls: int, concurrency: int, salt: str) -> float:
    frame = pd.DataFrame({"text": [f"review number {n}" for n in range(calls)]})
    given: dict[str, Any] = {"model": f"sim:{provider}", "concurrency": concurrency, "salt": salt}
    start = time.process_time()
    out = frame.llm.parse(Review, "Read:\n{text}", **given)
    took = time.process_time() - start
    assert out["score"].notna().all()
    return took


def settle_down() -> None:
    """Wait until the store's thread has been idle for a second and has finished its cleanup."""
    time.sleep(1.5)


def thread_seconds() -> dict[str, float]:
    """Return the CPU seconds of the running threads by name, added up for each pool."""
    used: dict[str, float] = {}
    for thread in threading.enumerate():
        name = thread.name.partition("_")[0]
        assert thread.ident is not None
        clock = time.pthread_getcpuclockid(thread.ident)
        used[name] = used.get(name, 0.0) + time.clock_gettime(clock)
    return used


async def transport_alone(provider: str, calls: int, concurrency: int) -> float:
    """Return the CPU seconds of posting prepared bytes with the package's transport alone."""
    from pllm_notebook.providers.anthropic import messages as anthropic
    from pllm_notebook.providers.openai import connect as openai

    transport = {"openai": openai, "anthropic": anthropic}[provider].connect(
        Key("x"), Address(start_simulator().base_url(provider))
    )
    path, content = ("/chat/completions" if provider == "openai" else "/v1/messages"), orjson.dumps(body_of(provider))
    await spread(lambda: transport.post(path, content), concurrency, concurrency)
    took = await spread(lambda: transport.post(path, content), calls, concurrency)
    await transport.aclose()
    return took


def parts(provider: str, calls: int, concurrency: int, times: int) -> None:
    """Print the CPU time of each part of a call, as medians of *times* rounds."""
    rounds: list[dict[str, float]] = []
    for nth in range(times):
        before, whole = thread_seconds(), ours(provider, calls, concurrency, f"parts {concurrency} {nth}")
        used = {name: seconds - before.get(name, 0.0) for name, seconds in thread_seconds().items()}
        settle_down()
        post = asyncio.run(transport_alone(provider, calls, concurrency))
        engine = used["pllm-engine"]
        named = [engine, *(used.get(name, 0.0) for name in ("pllm-store-writer", "pllm-work", "MainThread"))]
        row = [post, engine - post, *named[1:], whole - sum(named), whole]
        rounds.append(dict(zip(_PARTS, row, strict=True)))
    for part in _PARTS:
        print(
            f"| {provider} | {concurrency} | {part} | {statistics.median(r[part] for r in rounds) / calls * 1e6:.0f} |"
        )


_PARTS = (
    "engine thread: the SDK's `post`, of bytes, alone",
    "engine thread: the rest (dispatch, decoding, limits, bookkeeping, garbage collection)",
    "writer thread: packing and commits",
    "workers: planning, validation",
    "main thread: frame in, columns out, waiting",
    "threads that ended meanwhile",
    "all",
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--parts", action="store_true", help="print where ours goes in place of the comparison")
    given = parser.parse_args()
    pllm.configure(cache_dir=tempfile.mkdtemp(), progress=False, sim={"latency_s": 0.0})
    if given.parts:
        print("| provider | at once | part | us per call |")
        print("| --- | --- | --- | --- |")
        for provider in ("openai", "anthropic"):
            for concurrency in given.concurrency:
                ours(provider, 2 * concurrency, concurrency, f"warm {concurrency}")
                parts(provider, given.calls, concurrency, given.times)
        return
    print("| provider | at once | aiohttp, raw | SDK `post` (the floor) | SDK `create` | **ours** | ours / floor |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for provider in ("openai", "anthropic"):
        for concurrency in given.concurrency:
            took: dict[str, list[float]] = {"aiohttp": [], "post": [], "create": [], "ours": []}
            ours(provider, 2 * concurrency, concurrency, f"warm {concurrency}")
            for nth in range(given.times):
                took["ours"].append(ours(provider, given.calls, concurrency, f"{concurrency} {nth}"))
                settle_down()
                for kind in ("post", "aiohttp", "create"):
                    took[kind].append(asyncio.run(with_client(kind, provider, given.calls, concurrency)))
            each = {kind: statistics.median(times) / given.calls * 1e6 for kind, times in took.items()}
            ratio = statistics.median(mine / floor for mine, floor in zip(took["ours"], took["post"], strict=True))
            print(
                f"| {provider} | {concurrency} | {each['aiohttp']:.0f} | {each['post']:.0f} | {each['create']:.0f} "
                f"| **{each['ours']:.0f}** | {ratio:.2f} |"
            )


if __name__ == "__main__":
    main()
