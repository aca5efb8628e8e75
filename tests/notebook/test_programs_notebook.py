"""The notebook on resumable programs runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.notebook.executing import executed

pytestmark = pytest.mark.kernel


def test_the_programs_notebook_ends_overnight_with_the_winner_it_found_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = executed("programs.ipynb", tmp_path, monkeypatch)

    assert result(notebook, "with pllm.resume_directory") == "'lysozyme'"
    assert result(notebook, "before = provider") == "(4, 0)"
    runs = [printed(cell) for cell in notebook.cells if cell.source.startswith("%%pllm_session")]
    submitted = [f"submitted {calls} in 1 batch job" for calls in ("1 call", "2 calls", "1 call")]
    assert [told in run for told, run in zip(submitted, runs, strict=False)] == [True] * 3
    assert runs[3] == "The winner is lysozyme\n"
    assert result(notebook, "counted = provider").endswith("'jobs': 3, 'lines answered in jobs': 4}")


def result(notebook: Any, start: str) -> str:
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith(start))
    texts = [output.data.get("text/plain", "") for output in cell.outputs if output.output_type == "execute_result"]
    return "\n".join(texts)


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")
