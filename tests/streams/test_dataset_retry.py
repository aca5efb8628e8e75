"""A directory that `parse_dataset` wrote: what is in it, rows that are asked again, and interrupts on the way."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.streams.manifest import recorded_options
from tests.streams.test_batches import Mark, answer
from tests.streams.test_dataset import ask, ready, source, table_of

__all__ = ["ready", "source"]


def refusing(*numbers: int) -> Any:
    """Return what answers all rows but these."""

    def answered(request: SimRequest) -> Any:
        number = int(request.prompt.split()[-1])
        return SimAnswer.refusal() if number in numbers else {"mark": number}

    return answered


@pytest.fixture
def failed(ready: Simulator, source: str, tmp_path: Path) -> str:
    """A dataset of 35 rows in four parts, of which rows 3, 4 and 21 were refused."""
    ready.set(answers=refusing(3, 4, 21))
    with pytest.warns(UserWarning, match="3 of 35 rows failed"):
        ask(source, tmp_path / "out")
    ready.set(answers=answer)
    return str(tmp_path / "out")


def test_an_opened_directory_says_what_is_in_it(ready: Simulator, failed: str) -> None:
    dataset = pllm.open_dataset(failed)

    assert dataset.progress() == (4, 4, 35, 35, 32, 3, 0)
    assert str(dataset.progress()) == "4 of 4 parts, 35 of 35 rows: 32 answered, 3 failed, 0 skipped"
    assert dataset.errors()["n"].to_pylist() == [3, 4, 21]
    assert all(text.startswith("refusal: ") for text in dataset.errors()["_pllm_error"].to_pylist())
    assert (dataset.written, dataset.cost) == (0, 0.0)
    assert dataset.scan().count_rows() == 35


def test_a_retry_asks_failed_rows_alone_and_rewrites_their_parts(ready: Simulator, failed: str) -> None:
    before = {path: os.stat(path).st_mtime_ns for path in pllm.open_dataset(failed).paths}
    sent = ready.stats().requests

    dataset = pllm.open_dataset(failed).retry(["refusal"])

    assert ready.stats().requests == sent + 3
    assert (dataset.written, dataset.rows, dataset.answered, dataset.failed) == (2, 3, 3, 0)
    table = table_of(dataset)
    assert table["n"].to_pylist() == table["mark"].to_pylist() == list(range(35))
    assert table["_pllm_error"].null_count == 35
    changed = [os.stat(path).st_mtime_ns != old for path, old in before.items()]
    assert changed == [True, False, True, False]
    assert len({str(pq.read_schema(path).remove_metadata()) for path in dataset.paths}) == 1


def test_paid_failures_are_asked_again_only_when_named(ready: Simulator, failed: str) -> None:
    sent = ready.stats().requests

    assert pllm.open_dataset(failed).retry().rows == 0
    with pytest.raises(UsageError, match=r"no kind of failure 'refusl'.*refusal"):
        pllm.open_dataset(failed).retry(["refusl"])

    assert ready.stats().requests == sent


def test_rows_that_the_cache_did_not_have_are_asked_by_a_retry(ready: Simulator, source: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="35 of 35 rows failed"):
        dataset = ask(source, tmp_path / "out", cache="only")

    again = dataset.retry(max_cost_usd=None)

    assert (again.rows, again.answered, again.written) == (35, 35, 4)
    assert table_of(again)["mark"].to_pylist() == list(range(35))


def test_a_retry_of_exploded_rows_puts_their_lines_in_place(ready: Simulator, tmp_path: Path) -> None:
    pq.write_table(pa.table({"t": ["row 2", "row 3", "row 1"]}), tmp_path / "in.parquet")
    ready.set(answers=lambda request: SimAnswer.refusal() if "3" in request.prompt else [1] * int(request.prompt[-1]))
    with pytest.warns(UserWarning, match="1 of 3 rows failed"):
        pllm.parse_dataset(tmp_path / "in.parquet", tmp_path / "out", list[int], "{t}", explode=True)
    ready.set(answers=lambda request: [1] * int(request.prompt[-1]))

    dataset = pllm.open_dataset(tmp_path / "out").retry(["refusal"], response_format=list[int])

    assert table_of(dataset)["t"].to_pylist() == ["row 2"] * 2 + ["row 3"] * 3 + ["row 1"]


def test_the_type_is_imported_by_its_name_or_asked_for(
    ready: Simulator, failed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "_pllm.json"
    manifest = json.loads(path.read_text())
    assert manifest["type"] == "tests.streams.test_batches:Mark"
    sent = ready.stats().requests

    path.write_text(json.dumps(manifest | {"type": "reviews:Review"}))
    with pytest.raises(UsageError, match=r"reviews:Review, cannot be imported here\. Pass it as response_format="):
        pllm.open_dataset(failed).retry(["refusal"])
    with pytest.raises(UsageError, match="schema differs"):
        pllm.open_dataset(failed).retry(["refusal"], response_format=int)
    with pytest.raises(UsageError, match="temperature was null"):
        pllm.open_dataset(failed).retry(["refusal"], response_format=Mark, temperature=1)
    assert ready.stats().requests == sent
    assert pllm.open_dataset(failed).retry(["refusal"], response_format=Mark).answered == 3


def test_options_of_the_dataset_are_those_of_a_retry(ready: Simulator, source: str, tmp_path: Path) -> None:
    ready.set(answers=refusing(3))
    with pytest.warns(UserWarning, match="1 of 35 rows failed"):
        ask(source, tmp_path / "out", temperature=0.5, prefix="my_", columns=None, stop=["x", "y"])
    ready.set(answers=answer)

    dataset = pllm.open_dataset(tmp_path / "out").retry(["refusal"])

    assert table_of(dataset)["my_mark"].to_pylist() == list(range(35))
    body = ready.requests()[-1]["body"]
    assert (body["temperature"], body["stop"]) == (0.5, ["x", "y"])


def test_what_is_no_dataset_or_has_no_status_is_refused(ready: Simulator, source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no manifest"):
        pllm.open_dataset(tmp_path)
    dataset = ask(source, tmp_path / "out", status=False)

    assert dataset.progress() == (4, 4, 35, 35, None, None, None)
    with pytest.raises(UsageError, match="status=False"):
        dataset.errors()
    with pytest.raises(UsageError, match="do not say which rows failed"):
        dataset.retry()


def test_after_an_interrupt_the_same_call_pays_for_nothing_twice(ready: Simulator, source: str, tmp_path: Path) -> None:
    held = threading.Event()

    def answered(request: SimRequest) -> Any:
        number = int(request.prompt.split()[-1])
        if number >= 20:
            held.wait(60)
        return {"mark": number}

    def interrupt() -> None:
        parts = tmp_path / "out"
        while len(list(parts.glob("part-*.parquet"))) < 2 or ready.stats().in_flight < 1:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    ready.set(answers=answered)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt, match="Stopped"):
            ask(source, tmp_path / "out", concurrency=40)
    finally:
        held.set()
        thread.join()
    progress = pllm.open_dataset(tmp_path / "out").progress()
    while ready.stats().in_flight:
        time.sleep(0.01)
    ready.reset()
    dataset = ask(source, tmp_path / "out")

    assert (progress.parts, progress.total_parts, progress.answered) == (2, 4, 20)
    assert not progress.is_complete
    assert table_of(dataset)["mark"].to_pylist() == list(range(35))
    assert (dataset.written, ready.stats().requests) == (2, 15)


def test_a_retried_part_keeps_its_categories(ready: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moods.py").write_text("from typing import Literal\nfrom pydantic import BaseModel\n\n\n"
                                       "class Mood(BaseModel):\n    mood: Literal['good', 'bad']\n")  # fmt: skip
    monkeypatch.syspath_prepend(str(tmp_path))
    mood = importlib.import_module("moods").Mood
    pq.write_table(pa.table({"t": ["row 1", "row 2"]}), tmp_path / "in.parquet")
    ready.set(answers=lambda request: SimAnswer.refusal() if "1" in request.prompt else {"mood": "bad"})
    with pytest.warns(UserWarning, match="1 of 2 rows failed"):
        pllm.parse_dataset(tmp_path / "in.parquet", tmp_path / "out", mood, "{t}")
    ready.set(answers=lambda request: {"mood": "good"})

    table = table_of(pllm.open_dataset(tmp_path / "out").retry(["refusal"]))

    sys.modules.pop("moods")
    assert pa.types.is_dictionary(table["mood"].type)
    assert table["mood"].to_pylist() == ["good", "bad"]


def test_a_directory_without_parts_has_no_errors_and_a_damaged_part_is_named(ready: Simulator, failed: str) -> None:
    for part in sorted(Path(failed).glob("part-*")):
        part.write_bytes(b"junk")
    for read in ("progress", "errors", "scan"):
        with pytest.raises(UsageError, match=r"cannot be read as Parquet.*Delete it"):
            getattr(pllm.open_dataset(failed), read)()

    for part in Path(failed).glob("part-*"):
        part.unlink()
    manifest = Path(failed) / "_pllm.json"
    manifest.write_text(
        json.dumps({name: value for name, value in json.loads(manifest.read_text()).items() if name != "parts"})
    )
    assert pllm.open_dataset(failed).errors().num_rows == 0

    with pytest.raises(UsageError, match="is not a dataset"):
        pllm.open_dataset(manifest)


def test_a_manifest_from_elsewhere_does_not_say_what_is_sent_or_what_it_may_cost(ready: Simulator, failed: str) -> None:
    path = Path(failed) / "_pllm.json"
    manifest = json.loads(path.read_bytes())
    manifest["options"] |= {"images_from": "anywhere", "max_cost_usd": 1e9, "errors": "raise", "mode": "batch"}
    path.write_text(json.dumps(manifest))

    options = recorded_options(manifest)

    assert not {"images_from", "max_cost_usd", "errors", "mode"} & options.keys()


def test_what_was_configured_when_a_dataset_was_written_does_not_keep_a_retry_from_it(
    ready: Simulator, source: str, tmp_path: Path
) -> None:
    pllm.configure(column="summary", max_examples=3)
    ready.set(answers=refusing(3))
    with pytest.warns(UserWarning, match="1 of 35 rows failed"):
        ask(source, tmp_path / "out")
    pllm.configure(column=None, max_examples=None)
    ready.set(answers=answer)

    assert pllm.open_dataset(tmp_path / "out").retry(["refusal"]).answered == 1


def test_an_option_that_does_nothing_is_refused_before_a_table_is_read(ready: Simulator) -> None:
    for given in ({"column": "summary"}, {"max_examples": 3}):
        with pytest.raises(UsageError, match=r"Nothing was sent\.$"):
            pllm.parse_batches(iter([]), Mark, "{t}", **given)
