"""`parse_batches`: tables in, the same tables with columns out, in order and in bounded memory."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import BudgetError, MissingKeyError, UnknownColumnError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.store import finish_writes


class Mark(BaseModel):
    """The number in the text."""

    mark: int


def answer(request: SimRequest) -> Any:
    return SimAnswer.refusal() if "bad" in request.prompt else {"mark": int(request.prompt.split()[-1])}


@pytest.fixture
def ready(cache_dir: Path, sim: Simulator) -> Simulator:
    sim.set(answers=answer, keep_requests=20_000)
    pllm.configure(servers={"here": sim.base_url("compatible")}, model="here:any")
    return sim


def tables(count: int, rows: int = 10, read: list[int] | None = None) -> Iterator[pd.DataFrame]:
    for at in range(count):
        if read is not None:
            read.append(at)
        first = at * rows
        yield pd.DataFrame({"t": [f"row {n}" for n in range(first, first + rows)]}, index=range(first, first + rows))


def marks(parts: list[pd.DataFrame]) -> list[int]:
    return [mark for part in parts for mark in part["mark"].tolist()]


def test_each_table_comes_back_with_its_own_index_in_order(ready: Simulator) -> None:
    ready.set(latency_s=0.01, latency_sigma=1.0)

    parts = list(pllm.parse_batches(tables(6), Mark, "{t}"))

    assert [part.index.tolist() for part in parts] == [list(range(n * 10, n * 10 + 10)) for n in range(6)]
    assert marks(parts) == list(range(60))


def test_a_table_larger_than_a_run_comes_back_in_pieces(ready: Simulator) -> None:
    parts = list(pllm.parse_batches(tables(2, rows=25), Mark, "{t}", rows=10))

    assert [len(part) for part in parts] == [10, 10, 5, 10, 10, 5]
    assert marks(parts) == list(range(50))


def test_a_series_comes_back_as_one(ready: Simulator) -> None:
    ready.set(answers=lambda request: int(request.prompt.split()[-1]))

    (part,) = pllm.parse_batches([pd.Series(["row 1", "row 2"], index=["a", "b"])], int, "{value}")

    assert isinstance(part, pd.Series)
    assert part.to_dict() == {"a": 1, "b": 2}


def test_each_table_comes_back_in_its_own_kind(ready: Simulator) -> None:
    frame = next(tables(1))
    polars_frame, arrow_table = pl.from_pandas(frame), pa.table({"t": frame["t"].tolist()})

    parts = list(pllm.parse_batches([frame, polars_frame, arrow_table], Mark, "{t}", rows=6))

    assert [type(part) for part in parts] == [pd.DataFrame] * 2 + [pl.DataFrame] * 2 + [pa.Table] * 2
    assert [len(part) for part in parts] == [6, 4] * 3
    assert ready.stats().requests == 10


def test_an_arrow_reader_is_read_batch_by_batch(ready: Simulator) -> None:
    table = pa.table({"t": [f"row {n}" for n in range(6)]})

    parts = list(pllm.parse_batches(pa.RecordBatchReader.from_batches(table.schema, table.to_batches(2)), Mark, "{t}"))

    assert [mark for part in parts for mark in part.column("mark").to_pylist()] == list(range(6))
    assert len(parts) == 3


def test_tables_are_read_only_as_far_ahead_as_calls_are_wanted(ready: Simulator) -> None:
    read: list[int] = []
    parts = pllm.parse_batches(tables(50, read=read), Mark, "{t}", rows=20, concurrency=2)
    before = list(read)

    next(parts)

    assert before == []
    assert len(read) <= 9
    parts.close()


def parts_of_runs() -> list[object]:
    return [one for one in gc.get_objects() if type(one).__name__ in ("Run", "Execution", "TableRows")]


def test_nothing_of_a_yielded_table_is_held(ready: Simulator) -> None:
    parts = pllm.parse_batches(tables(5), Mark, "{t}", rows=10)
    gc.collect()
    others = parts_of_runs()  # what earlier tests hold; kept here, so that no new one has the identity of an old one
    gc.disable()
    try:
        part = next(parts)
        made = weakref.ref(part)
        del part
        rest = len(list(parts))
        finish_writes()
        held = [one for one in parts_of_runs() if all(one is not other for other in others)]
    finally:
        gc.enable()

    assert (rest, made(), held) == (4, None, [])
    assert run_registry.runs() == []


def test_the_failures_of_a_part_are_those_of_its_rows(ready: Simulator) -> None:
    frames = [pd.DataFrame({"t": ["row 1", "bad 2"]}), pd.DataFrame({"t": ["row 3"]})]

    with pytest.warns(UserWarning, match="1 of 3 rows failed and have no answer") as told:
        first, _ = pllm.parse_batches(frames, Mark, "{t}")

    assert len(told) == 1
    assert told[0].filename == __file__
    assert first.llm.errors["position"].tolist() == [1]


def test_equal_rows_of_two_tables_are_paid_for_once(ready: Simulator) -> None:
    parts = list(pllm.parse_batches([*tables(1), *tables(1)], Mark, "{t}"))

    assert marks(parts) == [*range(10), *range(10)]
    assert ready.stats().requests == 10


def test_one_ceiling_holds_for_all_tables(cache_dir: Path, sim: Simulator) -> None:
    sim.set(answers=answer)
    pllm.configure(servers={"here": sim.base_url("compatible")})
    parts: list[pd.DataFrame] = []
    read: list[int] = []

    with pytest.raises(BudgetError, match=r"max_cost_usd was reached: \d+ rows") as raised:
        parts.extend(
            pllm.parse_batches(
                tables(100, read=read), Mark, "{t}", rows=10, model="sim:openai", max_cost_usd=0.002, concurrency=4
            )
        )

    answered = sum(int(part["mark"].notna().sum()) for part in parts)
    assert len(read) < 100
    assert raised.value.total == 10 * len(parts)
    assert raised.value.kept == answered


def test_closing_early_cancels_what_is_going(ready: Simulator) -> None:
    frames = list(tables(2))
    frames[0].llm.parse(Mark, "{t}")
    run_registry.forget_all()
    ready.set(latency_s=60.0)
    parts = pllm.parse_batches(frames, Mark, "{t}")
    next(parts)
    going = run_registry.runs()

    parts.close()

    assert [run.state for run in going] == ["cancelled"]
    assert run_registry.runs() == []


def test_an_interrupt_stops_every_table(ready: Simulator) -> None:
    ready.set(latency_s=60.0)
    seen: list[Any] = []

    def interrupt() -> None:
        while ready.stats().in_flight < 20:
            time.sleep(0.01)
        seen.extend(run_registry.runs())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()

    with pytest.raises(KeyboardInterrupt, match="Stopped"):
        next(pllm.parse_batches(tables(2), Mark, "{t}", rows=20))

    thread.join()
    assert [run.state for run in seen] == ["cancelled"] * 2


def test_a_table_that_cannot_be_asked_comes_after_what_was_started(ready: Simulator) -> None:
    parts = []

    with pytest.raises(UnknownColumnError, match="'t'"):
        parts.extend(pllm.parse_batches([*tables(1), pd.DataFrame({"other": ["x"]})], Mark, "{t}"))

    assert marks(parts) == list(range(10))


def test_an_error_of_the_source_comes_after_what_was_started(ready: Simulator) -> None:
    def source() -> Iterator[pd.DataFrame]:
        yield from tables(2)
        raise OSError("the disk is gone")

    parts = []

    with pytest.raises(OSError, match="the disk is gone"):
        parts.extend(pllm.parse_batches(source(), Mark, "{t}"))

    assert marks(parts) == list(range(20))


def test_what_ends_a_run_ends_the_stream(cache_dir: Path) -> None:
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        next(pllm.parse_batches(tables(3), Mark, "{t}", model="openai:gpt-6-luna"))

    assert run_registry.runs() == []


def test_two_streams_at_once_share_the_limiter(ready: Simulator) -> None:
    ready.set(requests_per_min=6_000.0, burst_s=0.5)
    made: list[list[pd.DataFrame]] = [[], []]

    def ask(at: int) -> None:
        frames = (frame.assign(t=f"stream {at} " + frame["t"]) for frame in tables(6, rows=20))
        made[at].extend(pllm.parse_batches(frames, Mark, "{t}", rows=20))

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [marks(parts) for parts in made] == [list(range(120))] * 2
    names = {dispatcher.name for dispatcher in pllm.engine.engine("private").dispatchers}
    assert len(names) == 1


def test_awaiting_leaves_the_loop_free(ready: Simulator) -> None:
    async def source() -> AsyncIterator[pd.DataFrame]:
        for frame in tables(3):
            yield frame

    async def main() -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
        first = [part async for part in pllm.aparse_batches(tables(3), Mark, "{t}")]
        return first, [part async for part in pllm.aparse_batches(source(), Mark, "{t}", rows=4)]

    first, second = asyncio.run(main())

    assert marks(first) == marks(second) == list(range(30))
    assert [len(part) for part in second] == [4, 4, 2] * 3


def test_an_async_stream_that_is_closed_leaves_no_task(ready: Simulator) -> None:
    ready.set(latency_s=30.0)

    async def main() -> tuple[int, list[str]]:
        parts = pllm.aparse_batches(tables(3), Mark, "{t}")
        waiting = asyncio.ensure_future(anext(parts))
        while not run_registry.runs():
            await asyncio.sleep(0)
        going = run_registry.runs()
        waiting.cancel()
        await asyncio.wait([waiting])
        await parts.aclose()
        return len(asyncio.all_tasks()), [run.state for run in going]

    tasks, states = asyncio.run(main())

    assert tasks == 1
    assert set(states) == {"cancelled"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tables": pd.DataFrame({"t": ["a"]})}, "takes an iterable of tables, not one DataFrame"),
        ({"tables": [], "rows": 0}, "rows is a whole number of at least 1, not 0"),
        ({"tables": [], "mode": "batch", "wait": False}, "leave wait= out"),
        ({"tables": [], "modle": "x"}, "modle"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_read(
    cache_dir: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pllm.parse_batches(given.pop("tables"), Mark, "{t}", **given)


def test_something_that_is_no_table_is_named(ready: Simulator) -> None:
    with pytest.raises(UsageError, match="Item 1 of the tables is str"):
        list(pllm.parse_batches([*tables(1), "rows"], Mark, "{t}"))
