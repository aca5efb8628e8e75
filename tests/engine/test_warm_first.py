"""When a run's calls leave, to the virtual second, where all of them begin with one long text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from itertools import count
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from pllm_notebook.engine import Dispatcher, Limiter
from pllm_notebook.execution import Execution
from pllm_notebook.execution.launch import build_spec, options_for
from pllm_notebook.execution.services import RunServices
from pllm_notebook.providers.quirks import Quirks
from pllm_notebook.types import RawReply
from tests.engine.virtual import run_virtual

ANSWER = orjson.dumps(
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1},
    }
)

_numbers = count()


@dataclass
class Provider:
    """Answers the nth request after `latency_s(nth)`, with `status(nth)`."""

    latency_s: Callable[[int], float]
    status: Callable[[int], int] = lambda nth: 200
    starts: list[float] = field(default_factory=list)
    late_errors: list[object] = field(default_factory=list)

    async def post(self, path: str, content: bytes) -> RawReply:
        nth = len(self.starts)
        self.starts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.latency_s(nth))
        return RawReply(self.status(nth), {}, ANSWER)

    async def aclose(self) -> None:
        pass


@dataclass
class Prompts:
    """As many rows as wanted, numbered."""

    total: int
    source: str = ""

    def prompts(self, rows: range) -> Sequence[str]:
        return [f"row {row}" for row in rows]

    def items(self, rows: range) -> Sequence[bytes]:
        return [orjson.dumps(f"row {row}") for row in rows]


class AtOnce(Executor):
    """Does the work where it is asked for: a virtual loop waits for no thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def departures(provider: Provider, rows: int = 20, *, system: str | None = None, **options: Any) -> list[float]:
    """When each request left, in virtual seconds, of a run that has never been."""
    system = f"Instruction {next(_numbers)}. " + "Be exact. " * 1000 if system is None else system
    given = {"model": "openai:gpt-6-luna", "system": system, "max_retries": 1, "timeout_s": 100.0}
    spec = build_spec(options_for(given | options), None, instruct=False)
    spec.target = replace(spec.target, connect=lambda: provider, quirks=Quirks())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def dispatcher(identity: object, make: Callable[[Limiter], Dispatcher], **known: object) -> Dispatcher:
            return make(Limiter())

        rng = SimpleNamespace(random=lambda: 0.5)
        on_loop = SimpleNamespace(loop=loop, call=lambda function, *args: loop.call_soon(function, *args))
        engine: Any = SimpleNamespace(loop=on_loop, workers=AtOnce(), rng=rng, dispatcher=dispatcher)
        execution = Execution([spec], Prompts(rows), RunServices(engine, None))
        execution.on_end = ended.set
        execution.begin()
        await ended.wait()
        # As when its handle goes; the wait for a first answer may be still to end.
        execution.release()
        loop.set_exception_handler(lambda loop, context: provider.late_errors.append(context))
        await asyncio.sleep(60.0)

    run_virtual(main)
    return provider.starts


def test_the_rest_leave_when_the_first_reply_is_there() -> None:
    assert departures(Provider(lambda nth: 3.0)) == [0.0] + [3.0] * 19


def test_the_rest_leave_after_ten_seconds_whatever_the_first_call_does() -> None:
    assert departures(Provider(lambda nth: 60.0 if nth == 0 else 1.0)) == [0.0] + [10.0] * 19


def test_a_wait_that_ends_after_its_run_was_released_does_nothing() -> None:
    provider = Provider(lambda nth: 1.0)

    departures(provider)

    assert provider.late_errors == []


def test_a_first_call_that_is_sent_again_still_goes_alone() -> None:
    starts = departures(Provider(lambda nth: 1.0, status=lambda nth: 500 if nth == 0 else 200))

    assert starts[0] == 0.0
    assert 1.0 < starts[1] < 2.0
    assert starts[2:] == [starts[1] + 1.0] * 19


def test_a_first_call_that_fails_for_good_holds_nobody_longer() -> None:
    assert departures(Provider(lambda nth: 1.0, status=lambda nth: 400 if nth == 0 else 200)) == [0.0] + [1.0] * 19


@pytest.mark.parametrize(("rows", "starts"), [(1, [0.0]), (2, [0.0, 0.0]), (3, [0.0, 1.0, 1.0])])
def test_fewer_than_three_calls_wait_for_nothing(rows: int, starts: list[float]) -> None:
    assert departures(Provider(lambda nth: 1.0), rows) == starts


def test_a_short_instruction_is_not_waited_for() -> None:
    assert departures(Provider(lambda nth: 1.0), system="Be exact.") == [0.0] * 20


def test_one_call_at_a_time_stays_one_call_at_a_time() -> None:
    assert departures(Provider(lambda nth: 1.0), 4, mode="sync") == [0.0, 1.0, 2.0, 3.0]
