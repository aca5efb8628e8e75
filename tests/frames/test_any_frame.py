"""`pllm.parse` and its kin: any frame, and anything that streams Arrow data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import MissingPackageError, UsageError
from pllm_notebook.sim import SimRequest

from .frame_libraries import FrameKit


class Mark(BaseModel):
    """The number of letters."""

    mark: int


@pytest.fixture(autouse=True)
def ready(cache_dir: Path) -> None:
    def answer(request: SimRequest) -> Any:
        return {"mark": len(request.prompt)}

    pllm.configure(model="sim:openai", sim={"answers": answer})


class Stream:
    """A frame of a library that this package does not know. It can be read once."""

    def __init__(self, table: pa.Table) -> None:
        self.table, self.reads = table, 0

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        self.reads += 1
        assert self.reads == 1
        return self.table.__arrow_c_stream__(requested_schema)


def test_a_frame_comes_back_in_its_own_library(kit: FrameKit) -> None:
    frame = kit.frame({"t": ["a", "bbb"]})

    out = pllm.parse(frame, Mark, "{t}")

    assert type(out) is type(frame)
    assert kit.rows(out) == [{"t": "a", "mark": 1}, {"t": "bbb", "mark": 3}]
    assert pllm.estimate(frame, Mark, "{t}").cached == 2
    assert kit.column(pllm.submit(frame, Mark, "{t}").result(), "mark") == [1, 3]


def test_a_column_alone_is_asked_too(kit: FrameKit) -> None:
    out = pllm.frame(kit.series(["a", "bbb"], "t")).complete("{value}")

    assert len(kit.values(out)) == 2


STREAMS: dict[str, Callable[[pa.Table], Any]] = {
    "duckdb": lambda table: duckdb.from_arrow(table),
    "reader": lambda table: table.to_reader(),
    "batch": lambda table: table.to_batches()[0],
    "unknown": Stream,
}


@pytest.mark.parametrize("name", STREAMS)
def test_what_streams_arrow_data_becomes_an_arrow_table(name: str) -> None:
    table = pa.table({"t": ["a", "bbb", None], "n": [1, 2, 3]})

    out = pllm.parse(STREAMS[name](table), Mark, "{t}")

    assert isinstance(out, pa.Table)
    assert out.to_pydict() == {"t": ["a", "bbb", None], "n": [1, 2, 3], "mark": [1, 3, None]}
    assert pllm.frame(out).status.to_pylist() == ["ok", "ok", "skipped"]


def test_a_stream_is_read_once_for_a_preview() -> None:
    preview = pllm.preview(Stream(pa.table({"t": ["a", "bb", "ccc"]})), Mark, "{t}", rows=2)

    assert preview.frame["mark"].to_pylist() == [1, 2]
    assert preview.estimate.rows == 3
    assert "<pre>pyarrow.Table" in preview._repr_html_()


def test_chunks_are_read_as_one() -> None:
    chunked = pa.chunked_array([["a"], ["bb", "ccc"]])

    out = pllm.parse(chunked, Mark, "{value}")

    assert out.to_pydict() == {"value": ["a", "bb", "ccc"], "mark": [1, 2, 3]}


def test_metadata_of_a_table_stay_and_name_the_run() -> None:
    table = pa.table({"t": ["a"]}).replace_schema_metadata({"theirs": "kept"})

    out = pllm.parse(table, Mark, "{t}")

    assert out.schema.metadata == {b"theirs": b"kept", b"pllm_run": pllm.runs()[-1].id.encode()}


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        pllm.parse({"t": ["a"]}, Mark, "{t}")

    assert str(refused.value) == (
        "pllm.parse takes a DataFrame or a Series, not dict. Make one of it: pd.DataFrame(columns). Nothing was sent."
    )


def test_a_stream_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(pa.table({"t": ["a"]}))
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MissingPackageError, match=r"pip install 'pllm_notebook\[arrow\]'"):
        pllm.parse(stream, Mark, "{t}")


def test_reports_are_frames_of_the_library_that_was_asked(kit: FrameKit) -> None:
    frame = kit.frame({"t": ["a", "bb"], "label": [1, 3]})
    llm = kit.llm(pllm.parse(frame, Mark, "{t}", samples=3))

    evaluation = llm.evaluate("label", "mark")

    assert len(kit.rows(llm.samples)) == 6
    assert kit.column(llm.agreement, "mark") == [1.0, 1.0]
    assert len(kit.rows(llm.usage)) == 2
    assert isinstance(evaluation.report, type(frame))
    assert evaluation.accuracy == 0.5
    assert "precision" in repr(evaluation)
    assert "<table" in evaluation._repr_html_()
