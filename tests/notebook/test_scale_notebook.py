"""The notebook on rows beyond a frame runs from its first cell to its last, and pays for nothing twice."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.notebook.executing import executed
from tests.notebook.test_batch_notebook import shown_by

pytestmark = pytest.mark.kernel


def test_the_notebook_goes_from_a_lazy_frame_to_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed("scale.ipynb", tmp_path, monkeypatch)

    assert shown_by(notebook, "provider.stats().requests, asked") == "(0, 5, 5)"
    assert shown_by(notebook, "few = ") == "(10, 9)"
    assert shown_by(notebook, "dataset = pllm.open_dataset") == "90"
    assert shown_by(notebook, 'dataset = pllm.parse_dataset(folder / "in"') == "540"
    assert shown_by(notebook, "again = ") == "(0, 1, 540)"
    assert sum(ast.literal_eval(shown_by(notebook, "answered = ddf")).values()) == 600
    assert shown_by(notebook, "client.close()") == "(1080, 1080, 0)"
