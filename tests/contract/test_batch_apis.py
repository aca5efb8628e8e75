"""The providers' batch APIs, each through the provider's real SDK to a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anthropic
import openai
import orjson
import pytest
from google import genai
from google.genai import types

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Request, Turn
from pllm_notebook.protocols import BatchAPI, BatchRefused, TransportFault
from pllm_notebook.providers import ResolvedModel, resolve
from pllm_notebook.sim import Simulator
from pllm_notebook.types import BatchResult, RawReply, RemoteJob, Reply
from tests.contract.sides import ANTHROPIC, COMPATIBLE, GOOGLE, OPENAI, Side

pytestmark = pytest.mark.every_case  # each has code of its own

LABEL = "pllm-0123456789abcdef"
T = TypeVar("T")


def target_of(side: Side, sim: Simulator, clients: dict[str, Any] | None = None) -> ResolvedModel:
    """The side's model; `clients` by the side's provider in place of the SDK's own."""
    servers = {COMPATIBLE.provider: sim.base_url("compatible")}
    return resolve(side.model, servers=servers, clients=clients or {}, keys={}, simulator=sim.base_url)


def with_api(target: ResolvedModel, use: Callable[[BatchAPI], Awaitable[T]]) -> T:
    """Open the model's batch API on a loop, use it, and close both."""

    async def main() -> T:
        assert target.open_batch is not None
        api = target.open_batch()
        try:
            return await use(api)
        finally:
            await api.aclose()

    return asyncio.run(main())


def body_of(target: ResolvedModel, prompt: str) -> bytes:
    """The bytes that a live call sends."""
    return orjson.dumps(target.to_wire(target.wire.encode(Request(target.model, (Turn("user", prompt),)))))


def id_of(prompt: str) -> str:
    return f"p1-{prompt.encode().hex()}"


def written(path: Path, target: ResolvedModel, api: BatchAPI, prompts: list[str]) -> Path:
    """A request file with one line for each prompt, whose id is made of the prompt."""
    path.write_bytes(b"".join(api.line(id_of(prompt), body_of(target, prompt)) + b"\n" for prompt in prompts))
    return path


async def submitted(path: Path, target: ResolvedModel, api: BatchAPI, prompts: list[str]) -> RemoteJob:
    lines = written(path, target, api, prompts)
    return await api.create(lines, await api.upload(lines, LABEL), LABEL)


async def fetched(api: BatchAPI, job: RemoteJob) -> dict[str, BatchResult]:
    return {result.custom_id: result async for result in api.results(job)}


def ended_after(
    seconds: float, path: Path, target: ResolvedModel, sim: Simulator, prompts: str
) -> tuple[RemoteJob, dict[str, BatchResult]]:
    """Submit a line for each character, let time go by, and fetch what there is."""

    async def use(api: BatchAPI) -> tuple[RemoteJob, dict[str, BatchResult]]:
        job = await submitted(path, target, api, list(prompts))
        sim.advance(seconds)
        job = await api.look(job.id)
        return job, await fetched(api, job)

    return with_api(target, use)


def read(target: ResolvedModel, result: BatchResult) -> Reply | Failure | str:
    return result.failure if result.raw is None else target.read(result.raw)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "requests.jsonl"


# One job, from its lines to its results.


def test_a_job_answers_as_live_calls_do(side: Side, sim: Simulator, path: Path) -> None:
    target = target_of(side, sim)

    async def use(api: BatchAPI) -> tuple[RemoteJob, RemoteJob, dict[str, BatchResult]]:
        created = await submitted(path, target, api, ["a", "b", "ü\n\"c'"])
        sim.advance(60)
        ended = await api.look(created.id)
        return created, ended, await fetched(api, ended)

    created, ended, results = with_api(target, use)
    live = {prompt: lived(target, prompt) for prompt in ("a", "b", "ü\n\"c'")}

    assert (created.state, ended.state) == ("running", "ended")
    assert (ended.total, ended.succeeded, ended.failed) == (3, 3, 0)
    assert results.keys() == {id_of(prompt) for prompt in live}
    for prompt, reply in live.items():
        answered = read(target, results[id_of(prompt)])
        assert isinstance(answered, Reply)
        assert (answered.text, answered.usage) == (reply.text, reply.usage)


def lived(target: ResolvedModel, prompt: str) -> Reply:
    async def main() -> RawReply:
        transport = target.connect()
        raw = await transport.post(target.path, body_of(target, prompt))
        await transport.aclose()
        return raw

    reply = target.read(asyncio.run(main()))
    assert isinstance(reply, Reply)
    return reply


def test_a_line_holds_the_bytes_of_a_live_call(side: Side, sim: Simulator) -> None:
    target = target_of(side, sim)
    body = body_of(target, 'say "ü"')

    async def use(api: BatchAPI) -> bytes:
        return api.line('p1-"x"', body)

    line = with_api(target, use)

    assert body in line
    assert b"\n" not in line
    around = {
        "openai": {"custom_id": 'p1-"x"', "method": "POST", "url": f"/v1{target.path}", "body": orjson.loads(body)},
        "anthropic": {"custom_id": 'p1-"x"', "params": orjson.loads(body)},
        "google": {"key": 'p1-"x"', "request": orjson.loads(body)},
    }
    assert orjson.loads(line) == around.get(side.provider, around["openai"])


def test_a_job_is_listed_with_its_label_and_its_time(side: Side, sim: Simulator, path: Path) -> None:
    target = target_of(side, sim)
    began = time.time()

    async def use(api: BatchAPI) -> tuple[RemoteJob, list[RemoteJob], list[RemoteJob]]:
        job = await submitted(path, target, api, ["a", "b"])
        now = [each async for each in api.recent(began - 60)]
        later = [each async for each in api.recent(began + 60)]
        return job, now, later

    job, now, later = with_api(target, use)

    assert [each.id for each in now] == [job.id]
    assert job.label == (LABEL if side is not ANTHROPIC else "")
    assert now[0].label == job.label
    assert abs(job.created_at - began) < 30
    assert later == []


def test_lines_that_failed_are_read_as_live_refusals(side: Side, sim: Simulator, path: Path) -> None:
    target = target_of(side, sim)
    sim.set(batch_line_error=0.5)

    job, results = ended_after(60, path, target, sim, "abcdefgh")

    outcomes = [read(target, result) for result in results.values()]
    failures = [each for each in outcomes if isinstance(each, Failure)]
    assert (job.state, job.succeeded, job.failed) == ("ended", 4, 4)
    assert (len(outcomes), len(failures)) == (8, 4)
    assert all(failure.kind.retried and (failure.status or 0) >= 500 and failure.message for failure in failures)


def test_a_bad_line_fails_alone_as_a_bad_request(side: Side, sim: Simulator, path: Path) -> None:
    target = target_of(side, sim)
    bad = {"google": {"contents": "no list"}}.get(side.provider, {"model": target.model, "messages": 3, "input": 3})

    async def use(api: BatchAPI) -> dict[str, BatchResult]:
        lines = written(path, target, api, ["a"])
        with lines.open("ab") as file:
            file.write(api.line("p1-bad", orjson.dumps(bad)))  # and no end of its line
        job = await api.create(lines, await api.upload(lines, LABEL), LABEL)
        sim.advance(60)
        return await fetched(api, await api.look(job.id))

    results = with_api(target, use)

    assert isinstance(read(target, results[id_of("a")]), Reply)
    failure = read(target, results["p1-bad"])
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status) == (FailureKind.BAD_REQUEST, 400)


def test_lines_that_expired_say_so(side: Side, sim: Simulator, path: Path) -> None:
    target = target_of(side, sim)
    sim.set(batch_expire=0.5)

    job, results = ended_after(200_000, path, target, sim, "abcd")

    words = sorted(result.failure for result in results.values())
    assert job.state == "expired"
    # A Gemini job expires as a whole, and has no results then.
    assert words == ([] if side is GOOGLE else ["", "", "expired", "expired"])


def test_a_cancelled_job_keeps_what_was_done(side: Side, sim: Simulator, path: Path) -> None:
    target = target_of(side, sim)
    sim.set(batch_s=100.0)

    async def use(api: BatchAPI) -> tuple[RemoteJob, dict[str, BatchResult]]:
        job = await submitted(path, target, api, list("abcd"))
        sim.advance(55)
        assert (await api.look(job.id)).state == "running"
        await api.cancel(job.id)
        sim.advance(60)
        job = await api.look(job.id)
        return job, await fetched(api, job)

    job, results = with_api(target, use)

    assert job.state == "cancelled"
    # A Gemini job that is cancelled has no results.
    assert sum(isinstance(read(target, result), Reply) for result in results.values()) == (0 if side is GOOGLE else 2)
    assert {result.failure for result in results.values()} <= {"", "cancelled"}


@pytest.mark.parametrize("side", [OPENAI, GOOGLE], indirect=True, ids=lambda side: side.id)
def test_a_job_that_failed_as_a_whole_says_why(side: Side, sim: Simulator, path: Path) -> None:
    target = target_of(side, sim)
    sim.set(batch_fail=1)

    job, results = ended_after(60, path, target, sim, "a")

    assert job.state == "failed"
    assert "SIMULATED failure of validation" in job.message
    assert results == {}


def test_a_file_is_discarded_once_and_again(side: Side, sim: Simulator, path: Path) -> None:
    target = target_of(side, sim)

    async def use(api: BatchAPI) -> str:
        uploaded = await api.upload(written(path, target, api, ["a"]), LABEL)
        await api.discard(uploaded)
        await api.discard(uploaded)
        return uploaded

    uploaded = with_api(target, use)

    assert bool(uploaded) == (side is not ANTHROPIC)
    assert sim.stats().batch_jobs == 0


# What a creation that brings no answer may have done.


def test_a_creation_whose_answer_is_lost_is_sent_once(side: Side, sim: Simulator, path: Path) -> None:
    target = target_of(side, sim)
    sim.set(batch_create_lost=1)

    async def use(api: BatchAPI) -> tuple[TransportFault, list[RemoteJob]]:
        with pytest.raises(TransportFault) as caught:
            await submitted(path, target, api, ["a"])
        return caught.value, [job async for job in api.recent(time.time() - 60)]

    fault, jobs = with_api(target, use)

    assert fault.kind == FailureKind.CONNECTION
    assert (len(jobs), sim.stats().batch_jobs) == (1, 1)


def test_a_creation_that_ends_in_an_error_is_sent_once(side: Side, sim: Simulator, path: Path) -> None:
    target = target_of(side, sim)
    sim.set(batch_create_500=1)

    async def use(api: BatchAPI) -> TransportFault:
        with pytest.raises(TransportFault) as caught:
            await submitted(path, target, api, ["a"])
        return caught.value

    fault = with_api(target, use)

    # The next creation would have succeeded, had there been one.
    assert fault.kind == FailureKind.SERVER
    assert sim.stats().batch_jobs == 0


def test_a_job_that_nobody_has_is_a_refusal(side: Side, sim: Simulator) -> None:
    target = target_of(side, sim)
    name = "batches/none" if side is GOOGLE else "none"

    async def use(api: BatchAPI) -> int:
        with pytest.raises(BatchRefused) as caught:
            await api.look(name)
        return caught.value.status

    assert with_api(target, use) == 404


def client_of(side: Side, address: str) -> Any:
    """A client of each SDK that retries, as its defaults do."""
    if side is OPENAI:
        return openai.AsyncOpenAI(api_key="any", base_url=address)
    if side is ANTHROPIC:
        return anthropic.AsyncAnthropic(api_key="any", base_url=address)
    retries = types.HttpRetryOptions(attempts=5, initial_delay=0.01)
    return genai.Client(api_key="any", http_options=types.HttpOptions(base_url=address, retry_options=retries))


@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE], indirect=True, ids=lambda side: side.id)
def test_a_client_that_retries_creates_one_job_and_stays_open(side: Side, sim: Simulator, path: Path) -> None:
    client = client_of(side, sim.base_url(side.wire))
    target = target_of(side, sim, {side.provider: client})
    sim.set(batch_create_lost=1)

    async def use(api: BatchAPI) -> dict[str, BatchResult]:
        with pytest.raises(TransportFault):
            await submitted(path, target, api, ["a"])
        sim.advance(60)
        (job,) = [job async for job in api.recent(time.time() - 60)]
        results = await fetched(api, job)
        await api.aclose()
        assert target.open_batch is not None
        second = target.open_batch()  # through the caller's client once more, which closing a batch API has left open
        again = BatchResult((await second.look(job.id)).id, None)
        await second.aclose()
        return results | {"again": again}

    results = with_api(target, use)

    assert isinstance(read(target, results[id_of("a")]), Reply)
    assert sim.stats().batch_jobs == 1
