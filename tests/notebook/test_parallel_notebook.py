"""The notebook on lists of prompts runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.notebook.executing import executed

pytestmark = pytest.mark.kernel


def test_the_notebook_goes_from_a_mixed_list_over_tools_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = executed("parallel_inference.ipynb", tmp_path, monkeypatch)

    assert shown_by(notebook, "utilities = ParallelAIUtilities(") == "True"
    printed = shown_by(notebook, "text, made = outputs[0]").splitlines()
    assert printed[0].startswith("SIMULATED answer")
    assert printed[1].startswith("{'name': 'SIMULATED")
    formats = shown_by(notebook, "Counter((output.result_type")
    assert all(f"('{form}', " in formats for form in ("chat", "messages", "generate"))
    assert shown_by(notebook, "again = utilities") == "({None}, True)"
    assert shown_by(notebook, "PIXEL = ").splitlines() == ["image_url", "image/png", "image/png"]
    assert "SIMULATED answer" in shown_by(notebook, "pictures = [")
    assert shown_by(notebook, "wrong = [").count("input: ") == 2
    assert shown_by(notebook, "from pllm_notebook.sim import SimAnswer").count("('weigh', {'what': 'cocoa'})") == 0
    assert shown_by(notebook, "from pllm_notebook.sim import SimAnswer").count("'weigh', {'what': 'cocoa'}") == 3
    assert shown_by(notebook, "following = []").count("SIMULATED: it weighs 5 g.") == 3
    assert shown_by(notebook, "len(questions[0].history)") == "(0, ['user', 'assistant', 'tool'])"
    assert shown_by(notebook, "results = parse_results_file") == "(True, True)"


def shown_by(notebook: Any, start: str) -> str:
    """Give what a cell printed and its value, as text."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith(start))
    printed = [output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"]
    values = [output.data.get("text/plain", "") for output in cell.outputs if output.output_type == "execute_result"]
    return "\n".join([*printed, *values]).strip()
