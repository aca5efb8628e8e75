"""`shard=(i, k)`: several senders divide the calls by their content, and need not know of each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import SimRequest, Simulator
from pllm_notebook.store import close_stores
from tests.streams.test_batches import Mark
from tests.streams.test_dataset import ready, table_of

__all__ = ["ready"]

SENDERS = 3
NUMBERS = [n % 50 for n in range(60)]


def rows() -> pd.DataFrame:
    return pd.DataFrame({"t": [f"row {n}" for n in NUMBERS]})


def test_senders_divide_the_calls_and_twins_go_to_one(ready: Simulator) -> None:
    asked = []
    for at in range(SENDERS):
        before = ready.stats().requests
        out = rows().llm.parse(Mark, "{t}", shard=(at, SENDERS), cache="off")
        asked.append({*out["mark"].dropna().tolist()})
        assert len(asked[-1]) == ready.stats().requests - before
        assert out["mark"].dropna().tolist() == [n for n in NUMBERS if n in asked[-1]]

    assert set.union(*asked) == set(range(50))
    assert sum(map(len, asked)) == 50
    assert min(map(len, asked)) > 5


def test_rows_of_other_senders_are_pending_and_a_retry_leaves_them_alone(ready: Simulator) -> None:
    run = rows().llm.submit(Mark, "{t}", shard=(0, SENDERS))
    out = run.result()
    sent = ready.stats().requests

    run.retry().wait()

    assert set(out.llm.status) == {"ok", "pending"}
    assert run.progress().failed == 0
    assert ready.stats().requests == sent


def test_a_repair_is_sent_by_the_sender_of_its_call(ready: Simulator) -> None:
    def answered(request: SimRequest) -> Any:
        return {"mark": "none"} if len(request.messages) < 3 else {"mark": 1}

    ready.set(answers=answered)
    frame = pd.DataFrame({"t": ["row 1"]})
    with pytest.warns(UserWarning, match="1 of 1 rows failed"):
        frame.llm.parse(Mark, "{t}", max_repairs=0)
    sent = ready.stats().requests
    for at in range(SENDERS):
        frame.llm.parse(Mark, "{t}", shard=(at, SENDERS), cache="use")

    assert ready.stats().requests - sent == 1


def test_three_senders_and_a_last_pass_make_a_dataset_and_pay_for_nothing_twice(
    ready: Simulator, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"t": rows()["t"]}), tmp_path / "in.parquet")

    def send(machine: str, **options: Any) -> Any:
        pllm.configure(cache_dir=tmp_path / machine, cache_share=tmp_path / "share")
        dataset = pllm.parse_dataset(tmp_path / "in.parquet", tmp_path / "out", Mark, "{t}", rows=20, **options)
        close_stores()  # as the end of its process does: what is waiting is shipped
        return dataset

    senders = [send(f"cache{at}", shard=(at, SENDERS)) for at in range(SENDERS)]
    sent = ready.stats().requests
    last = send("last", cache="only")

    assert sent == ready.stats().distinct == 50
    assert [each.written for each in senders[:2]] == [0, 0]
    assert last.written + senders[2].written == 3
    assert table_of(last)["mark"].to_pylist() == NUMBERS
    assert ready.stats().requests == sent


@pytest.mark.parametrize("shard", [(3, 3), (-1, 2), (0,), (0, 2.0), "0/2", (True, 2)])
def test_a_shard_is_a_pair(ready: Simulator, shard: Any) -> None:
    with pytest.raises(UsageError, match=r"a pair \(i, k\)"):
        rows().llm.parse(Mark, "{t}", shard=shard)


def test_a_shard_of_several_answers_to_a_row_is_refused(ready: Simulator) -> None:
    with pytest.raises(UsageError, match="shard= is for rows that are one call each"):
        rows().llm.parse(Mark, "{t}", shard=(0, 2), samples=2)

    assert ready.stats().requests == 0


def test_a_scheduler_may_say_the_shard(ready: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLLM_SHARD", "0,3")

    out = rows().llm.parse(Mark, "{t}")

    assert 0 < out["mark"].notna().sum() < len(NUMBERS)
