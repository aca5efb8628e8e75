"""`pllm dataset`: Parquet files on the command line, resumed by the same words."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pllm_notebook
from pllm_notebook.cli import main
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator

Command = Callable[..., tuple[int, str, str]]

MODULE = """
from pydantic import BaseModel


class Mark(BaseModel):
    mark: int
"""


def answer(request: SimRequest) -> object:
    return SimAnswer.refusal() if "bad" in request.prompt else {"mark": int(request.prompt.split()[-1])}


@pytest.fixture
def pllm(
    cache_dir: Path,
    sim: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Command]:
    """Run the command beside a module with a type and a file of four rows."""
    sim.set(answers=answer)
    pllm_notebook.configure(servers={"here": sim.base_url("compatible")}, model="here:any")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "marks.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "in.parquet.json").write_bytes(b"\xff")
    (tmp_path / "marks.json").write_text("{")
    pq.write_table(pa.table({"t": ["row 1", "row 2", "bad 3", "row 4"]}), "in.parquet")

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["dataset", *words])
        return code, *capsys.readouterr()

    yield run
    sys.modules.pop("marks", None)


ASKED = ("in.parquet", "out", "--schema", "marks:Mark", "--prompt", "{t}", "--rows", "2", "--quiet")


def test_a_dataset_is_made_resumed_and_retried_by_commands(pllm: Command, sim: Simulator) -> None:
    made = pllm(*ASKED)
    again = pllm(*ASKED)
    status = pllm("status", "out")
    sim.set(answers=lambda request: {"mark": 3})
    retried = pllm("retry", "out", "--kinds", "refusal", "--quiet")

    whole = "2 of 2 parts, 4 of 4 rows: 3 answered, 1 failed, 0 skipped"
    assert made == (3, f"{whole}. Now 2 parts, 4 rows, unknown cost.\n", "")
    assert again == (3, f"{whole}. Now 0 parts, 0 rows, $0.\n", "")
    assert status == (0, f"{whole}\n", "")
    assert retried[0] == 0
    assert retried[1].startswith("2 of 2 parts, 4 of 4 rows: 4 answered, 0 failed, 0 skipped. Now 1 part, 1 row,")
    assert sim.stats().requests == 5


def test_a_prompt_and_a_schema_may_be_files(pllm: Command, tmp_path: Path) -> None:
    schema = {"type": "object", "title": "Mark", "properties": {"mark": {"type": "integer"}}, "required": ["mark"]}
    (tmp_path / "mark.json").write_text(json.dumps(schema))
    (tmp_path / "prompt.txt").write_text("Read this:\n{t}")

    code, _, errors = pllm("in.parquet", "out", "--schema", "mark.json", "--prompt-file", "prompt.txt", "--quiet")

    assert (code, errors) == (3, "")
    assert pq.read_table("out", partitioning=None)["mark"].to_pylist() == [1, 2, None, 4]


def test_a_ceiling_that_was_reached_has_a_code_of_its_own(pllm: Command) -> None:
    words = [*ASKED[:-1], "--model", "sim:openai", "--max-cost", "0.0000001"]

    code, out, errors = pllm(*words, "--quiet")

    assert (code, out) == (4, "")
    assert "max_cost_usd was reached" in errors
    assert pllm("status", "out")[0] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("in.parquet", "out"), "--schema MODULE:TYPE says what the answers are"),
        (("in.parquet", "out", "--schema", "marks"), "MODULE:TYPE"),
        (("in.parquet", "out", "--schema", "marks:Other"), "Other"),
        (("in.parquet", "out", "--schema", "absent_marks:Mark"), "No module named 'absent_marks'"),
        (("none.parquet", "out", "--schema", "marks:Mark"), "No Parquet file was found"),
        (("status", "none"), "no manifest"),
        (("status", "out", "--kinds", "refusal"), "`pllm dataset status` does not read --kinds"),
        (("retry", "out", "--prompt-file", "p"), "`pllm dataset retry` does not read --prompt-file"),
        (("in.parquet", "out", "--kinds", "refusal"), "`pllm dataset` without `retry` does not read --kinds"),
        (("in.parquet", "out", "--schema", ":Mark"), "MODULE:TYPE"),
        (("in.parquet", "out", "--schema", "broken:Mark"), "broken:Mark: ZeroDivisionError"),
        (("in.parquet", "out", "--schema", "in.parquet.json"), "in.parquet.json is not text in UTF-8"),
        (("in.parquet", "out", "--schema", "marks.json"), "--schema marks.json is not JSON"),
        (("in.parquet", "out", "--schema", "marks:Mark", "--prompt-file", "none"), "There is no file 'none'"),
    ],
)
def test_wrong_words_are_one_line(pllm: Command, sim: Simulator, words: tuple[str, ...], message: str) -> None:
    code, out, errors = pllm(*words)

    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert message in errors
    assert sim.stats().requests == 0
