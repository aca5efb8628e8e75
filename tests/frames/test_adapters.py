"""A dataframe library needs an adapter and nothing else: a toy one runs through the neutral accessor."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import NameClashError, UnknownColumnError
from pllm_notebook.execution import run_registry
from pllm_notebook.frames import libraries
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.sim import SimAnswer, SimRequest

from .toy_frames import ToyFrame, ToyLibrary

FRAMES = Path(libraries.__file__).parent
# The overloads of the one name the libraries' types, for type checkers alone; the other's files are Parquet, no frames.
NAMES_TYPES = {"any_frame.py", "label_table.py"}
pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Mark(BaseModel):
    """The number of letters."""

    mark: int


def answer(request: SimRequest) -> Any:
    if "bad" in request.prompt:
        return SimAnswer.refusal()
    return {"mark": len(request.prompt)} if request.schema else f"said {request.prompt}"


@pytest.fixture
def toy(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> ToyFrame:
    library = ToyLibrary()
    monkeypatch.setitem(libraries._LOADERS.value, "builtins", lambda: library)
    pllm.configure(model="sim:openai", sim={"answers": answer})
    return ToyFrame([{"t": "a"}, {"t": "bad"}, {"t": "bbb"}, {"t": None}])


def test_parse_puts_columns_beside_the_rows_of_any_library(toy: ToyFrame) -> None:
    out = pllm.frame(toy).parse(Mark, "{t}")

    assert isinstance(out, ToyFrame)
    assert out == [
        {"t": "a", "mark": 1},
        {"t": "bad", "mark": None},
        {"t": "bbb", "mark": 3},
        {"t": None, "mark": None},
    ]
    assert toy == [{"t": "a"}, {"t": "bad"}, {"t": "bbb"}, {"t": None}]


def test_complete_and_estimate_need_no_pandas_frame(toy: ToyFrame) -> None:
    assert pllm.frame(toy).estimate(Mark, "{t}").calls == 3
    assert [row["answer"] for row in pllm.frame(toy).complete("{t}")] == ["said a", None, "said bbb", None]


def test_errors_status_and_usage_are_of_the_rows_that_a_run_made(toy: ToyFrame) -> None:
    out = pllm.frame(toy).parse(Mark, "{t}")
    views = pllm.frame(ToyFrame(out[::-1], out.metadata["pllm_run"]))

    (failed,) = views.errors

    assert (failed["position"], failed["label"], failed["kind"]) == (2, 2, "refusal")
    assert views.status == ["skipped", "ok", "failed", "ok"]
    assert [row["attempts"] for row in views.usage] == [None, 1, 1, 1]
    assert pllm.errors(out) == pllm.frame(out).errors


def test_a_frame_of_any_library_gets_the_answers_of_a_recorded_run(toy: ToyFrame) -> None:
    out = pllm.frame(toy).parse(Mark, "{t}")
    run_registry.forget_all()
    run = pllm.run(out.metadata["pllm_run"])

    assert isinstance(run, RecordedRun)
    assert run.to_frame(ToyFrame([{"t": "bbb"}])) == [{"t": "bbb", "mark": 3}]


def test_columns_are_checked_before_anything_is_sent(toy: ToyFrame) -> None:
    with pytest.raises(UnknownColumnError, match="Did you mean 't'"):
        pllm.frame(toy).parse(Mark, "{tt}")
    with pytest.raises(NameClashError):
        pllm.frame(ToyFrame([{"t": "a", "mark": 9}])).parse(Mark, "{t}")


LIBRARIES = {"pandas", "polars", "pyarrow"}


def imported_libraries(file: Path) -> set[str]:
    """Return the dataframe libraries that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found & LIBRARIES


def test_only_the_adapters_import_a_dataframe_library() -> None:
    assert {file.name for file in FRAMES.glob("*.py") if imported_libraries(file)} == NAMES_TYPES


# Their tests take frames from `kit`, and so run on every library; what is about pandas alone is in the folder `pandas`.
OF_EVERY_LIBRARY = {
    "test_bad_input.py",
    "test_calibrations.py",
    "test_columns.py",
    "test_evaluation.py",
    "test_evidence.py",
    "test_examples.py",
    "test_formats.py",
    "test_handles.py",
    "test_instructions.py",
    "test_long_documents.py",
    "test_made_by.py",
    "test_probabilities.py",
    "test_recorded_runs.py",
    "test_results.py",
    "test_run_beside.py",
    "test_unread_options.py",
    "test_validation_context.py",
}


def test_tests_of_every_library_name_none() -> None:
    here = Path(__file__).parent

    assert {name for name in OF_EVERY_LIBRARY if imported_libraries(here / name)} == set()
