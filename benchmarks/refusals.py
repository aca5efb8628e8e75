"""Wall-clock time with refusals of several kinds: this package and a plain loop over the SDK, with the same server.

The server is a separate process on loopback. It refuses a share of the requests at random, or requests that exceed its
bucket, or it reports once a limit that does not exist. The loop is a typical one: a semaphore, and the SDK's retries.

    python -m benchmarks.refusals
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import random
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import pandas as pd
from aiohttp import web

import pllm_notebook as pllm

_AT_ONCE = 64  # of the loop
_RETRIES = 50
_LATENCY_S = 0.2
_SLOTS = 64


@dataclass(frozen=True)
class Case:
    """One kind of refusal.

    Attributes:
        name: Its name in the table.
        rows: Number of requests to answer.
        noise: Share of requests that are refused at random.
        a_second: Requests per second of the bucket. None for no bucket.
        burst: Size of the bucket in requests.
        waits: The wait that a refusal states: "exact" or "nothing".
        told_once: Whether one refusal reports a limit of one request a second, which does not exist.
    """

    name: str
    rows: int = 1_500
    noise: float = 0.0
    a_second: float | None = None
    burst: int = 0
    waits: str = "nothing"
    told_once: bool = False


CASES = (
    Case("1 % at random", noise=0.01),
    Case("5 % at random", noise=0.05),
    Case("20 % at random", noise=0.2),
    Case("a limit told once", told_once=True),
    Case("60 at once, 5 a second, no wait told", 120, a_second=5, burst=60),
    Case("60 at once, 5 a second, exact waits", 120, a_second=5, burst=60, waits="exact"),
)


class _Server:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.requests = self.refused = 0
        self.level, self.at = float(case.burst), time.monotonic()
        self.rng = random.Random(7)
        self.slots = asyncio.Semaphore(_SLOTS)

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.requests += 1
        headers = self.refusal()
        if headers is not None:
            self.refused += 1
            return web.json_response({"error": {"message": "Too many requests."}}, status=429, headers=headers)
        async with self.slots:
            await asyncio.sleep(_LATENCY_S * math.exp(self.rng.gauss(0.0, 0.3)))
        message = {"role": "assistant", "content": "yes"}
        usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"model": "m", "choices": [choice], "usage": usage})

    def refusal(self) -> dict[str, str] | None:
        """Return the headers of a refusal, or None to accept the request."""
        case = self.case
        if case.told_once and self.requests == 100:
            told = {"limit": "60", "remaining": "0", "reset": "30s"}
            return {f"x-ratelimit-{name}-requests": value for name, value in told.items()} | {"retry-after": "1"}
        if self.rng.random() < case.noise:
            return {}
        if case.a_second is None:
            return None
        now = time.monotonic()
        self.level, self.at = min(case.burst, self.level + (now - self.at) * case.a_second), now
        if self.level >= 1:
            self.level -= 1
            return None
        wait_s = (1 - self.level) / case.a_second
        return {"retry-after": f"{wait_s:.3f}"} if case.waits == "exact" else {}


def _serve(case: dict[str, Any], told: Connection) -> None:
    async def main() -> None:
        server, app = _Server(Case(**case)), web.Application()
        app.router.add_post("/v1/chat/completions", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        told.send(runner.addresses[0][1])
        await asyncio.get_running_loop().run_in_executor(None, told.recv)
        told.send((server.requests, server.refused))
        await runner.cleanup()

    asyncio.run(main())


def _ours(url: str, rows: int, name: str) -> int:
    pllm.configure(servers={name: url}, progress=False)
    frame = pd.DataFrame({"text": [f"row {n}" for n in range(rows)]})
    out = frame.llm.complete("Is {text} nice?", column="answer", model=f"{name}:m", cache="off")
    return int(out["answer"].notna().sum())


def _loop(url: str, rows: int, name: str) -> int:
    async def main() -> int:
        import openai

        gate = asyncio.Semaphore(_AT_ONCE)
        async with openai.AsyncOpenAI(api_key="any", base_url=url, max_retries=_RETRIES) as client:

            async def one(n: int) -> bool:
                async with gate:
                    try:
                        message = {"role": "user", "content": f"Is row {n} nice?"}
                        reply = await client.chat.completions.create(model="m", messages=[message])  # type: ignore[list-item]
                    except openai.APIError:
                        return False
                return bool(reply.choices)

            return sum(await asyncio.gather(*(one(n) for n in range(rows))))

    return asyncio.run(main())


def _measure(case: Case, who: Any, name: str) -> tuple[float, int, int]:
    """Return seconds, refusals and rows answered."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(asdict(case), there))
    process.start()
    url = f"http://127.0.0.1:{here.recv()}/v1"
    began = time.perf_counter()
    answered = who(url, case.rows, name)
    took_s = time.perf_counter() - began
    here.send(None)
    _, refused = here.recv()
    process.join()
    return took_s, refused, answered


def main() -> None:
    """Measure every case and print the table."""
    print("| case | rows | ours, s | refused | answered | loop, s | refused | answered | loop / ours |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    _measure(Case("warm", 50), _ours, "warm")
    for index, case in enumerate(CASES):
        ours, loop = _measure(case, _ours, f"bench{index}"), _measure(case, _loop, "")
        cells = [f"{part[0]:.1f} | {part[1]} | {part[2]}" for part in (ours, loop)]
        print(f"| {case.name} | {case.rows:,} | {cells[0]} | {cells[1]} | {loop[0] / ours[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
