"""Records of runs that anybody may have written: one that is odd costs itself, and no frame and no other run."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.execution import RowRecord, run_registry
from pllm_notebook.store import finish_writes

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def out(cache_dir: Path) -> pd.DataFrame:
    """A frame whose run is in the registry, beside one more, which the tests change."""
    pllm.configure(sim={"answers": lambda request: "good"}, model="sim:openai")
    words = pd.DataFrame({"text": ["a", "b"]})
    words.llm.complete("Changed: {text}", samples=2)
    made: pd.DataFrame = words.llm.complete("Read {text}", column="said")
    run_registry.forget_all()
    return made


def oldest(cache_dir: Path) -> Path:
    finish_writes()  # else a record that is still queued replaces what is written here
    return sorted((cache_dir / "runs").glob("*.run"))[0]


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a header, and its checksum with it."""
    line, _, rest = path.read_bytes().partition(b"\n")
    size = int(line.split()[2])
    header = orjson.loads(rest[:size])
    encoded = orjson.dumps(change(header) or header)
    path.write_bytes(
        b"pllm-run 1 %d %d\n" % (len(encoded), zlib.crc32(encoded, zlib.crc32(b"1"))) + encoded + rest[size:]
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda header: [1],
        lambda header: header.update(id="../../x"),
        lambda header: header.update(started_at="now"),
        lambda header: header.update(options=None),
        lambda header: header.update(made=[5]),
        lambda header: header.update(asked="text"),
        lambda header: header.update(cost_usd=[]),
        lambda header: header.update(shaping={"evil": 1}),
        lambda header: header.pop("made") and None,
        lambda header: header.update(arrays=None),
    ],
)
def test_an_odd_header_costs_its_run_alone(
    out: pd.DataFrame, cache_dir: Path, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(oldest(cache_dir), change)

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            (run,) = pllm.runs()
            assert run.question["prompt"] == "Read {text}"
            assert out.llm.status.tolist() == ["ok", "ok"]
            assert "good" in repr(out.llm.explain(0))
            run_registry.forget_all()

    assert caplog.text.count("was set aside") <= 1


def record(rows: int = 3) -> Arrays:
    members = 2
    return {
        "content": np.arange(rows, dtype=np.uint64),
        "keys": np.full((rows, 16), 65, dtype=np.uint8),
        "status": np.zeros(rows, dtype=np.uint8),
        "failure": np.zeros(rows, dtype=np.uint8),
        "several": np.zeros(rows, dtype=bool),
        "answer:said": np.zeros(rows, dtype=np.uint32),
        "agreement:said": np.ones(rows),
        "later_rows": np.array([1], dtype=np.int32),
        "later_keys": np.full((1, 16), 65, dtype=np.uint8),
        "sample:keys": np.full((rows, members, 12), 65, dtype=np.uint8),
        "sample:failure": np.zeros((rows, members), dtype=np.uint8),
        "sample:chosen": np.full(rows, -1, dtype=np.int8),
        "sample:how": np.zeros(rows, dtype=np.uint8),
        "origin": np.arange(rows, dtype=np.int32),
        "example": np.zeros(rows, dtype=bool),
    }


def test_arrays_of_one_run_are_its_record() -> None:
    assert len(RowRecord.of_arrays(record())) == 3


ODD_VALUES: Mapping[str, int] = {
    "status": 6, "keys": 200, "later_rows": 3, "later_keys": 128, "sample:chosen": 2, "sample:keys": 255, "origin": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", record())
def test_arrays_that_do_not_belong_together_are_no_record(name: str) -> None:
    whole = record()
    odd = [whole[name][:-1], whole[name][..., None], whole[name].astype("f4" if name[:9] != "agreement" else "u1")]
    if name in ODD_VALUES:
        odd.append(np.full_like(whole[name], ODD_VALUES[name]))
    if name.startswith("answer:"):
        odd.append(whole[name][:0])
    if name in ("origin", "later_rows"):
        odd.append(np.full_like(whole[name], -1))

    for array in odd:
        if name.startswith("later_") and not len(array):
            continue  # nothing is known of it then
        with pytest.raises((KeyError, ValueError)):
            RowRecord.of_arrays({**whole, name: array})


def test_no_row_has_an_answer_that_is_not_recorded() -> None:
    arrays = {name: array for name, array in record(0).items() if name not in ("origin", "later_rows", "later_keys")}
    empty = RowRecord.of_arrays(arrays)

    assert empty.has_answer("said", np.array([-1, 0, 7]), np.zeros(3, dtype=np.uint32)).tolist() == [False] * 3


@pytest.mark.parametrize("lost", ["content", "keys", "status", "failure", "several", "sample:keys"])
def test_a_record_without_an_array_is_none(lost: str) -> None:
    with pytest.raises((KeyError, TypeError)):
        RowRecord.of_arrays({name: array for name, array in record().items() if name != lost})


@pytest.mark.parametrize("change", ["a row", "a failure", "a way"])
def test_odd_rows_of_a_run_cost_its_record_alone(
    out: pd.DataFrame, cache_dir: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(header: dict[str, Any]) -> None:
        for listed in header["arrays"]:
            if change == "a row" and listed[0] == "status":
                listed[2] = [1, 2]
            if change == "a failure" and listed[0] in ("status", "failure"):
                listed[0] = {"status": "failure", "failure": "status"}[listed[0]]
            if change == "a way" and listed[0] in ("sample:how", "sample:chosen"):
                listed[0] = {"sample:how": "sample:chosen", "sample:chosen": "sample:how"}[listed[0]]
        if change == "a failure":
            header["failure_kinds"] = []

    rewrite(oldest(cache_dir), changed)
    run = next(one for one in pllm.runs() if "Changed" in one.question["prompt"])

    with caplog.at_level(logging.WARNING):
        shown = run.errors, run.usage, repr(run)

    assert all(one is not None for one in shown)
    assert out.llm.status.tolist() == ["ok", "ok"]
