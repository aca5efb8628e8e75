"""The notebook on batch jobs runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.notebook.executing import executed

pytestmark = pytest.mark.kernel


def test_the_batch_notebook_goes_from_a_sample_over_a_restart_to_the_last_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = executed("batch.ipynb", tmp_path, monkeypatch)

    submitted = shown_by(notebook, "out = df.llm.parse(Review, PROMPT, mode")
    assert counts(submitted) == {"pending": 290, "cached": 10}
    fetched = shown_by(notebook, "pllm.jobs().fetch()").splitlines()[1].split()
    assert fetched[1:6] == ["done", "openai:gpt-6-luna", "290", "281", "9"]
    assert counts(shown_by(notebook, "out = df.llm.parse(Review, PROMPT, cache")) == {"cached": 291, "failed": 9}
    assert shown_by(notebook, "second = next").startswith("9 lines were answered live")
    assert counts(shown_by(notebook, "out = df.llm.parse(Review, PROMPT)\n")) == {"cached": 300}
    paid = shown_by(notebook, "counted = provider.stats()")
    assert paid.startswith("{'live': 19, 'jobs': 2, ")


def shown_by(notebook: Any, start: str) -> str:
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith(start))
    for kind in ("execute_result", "display_data"):  # the latter of what shows itself with buttons
        texts = [output.data.get("text/plain", "") for output in cell.outputs if output.output_type == kind]
        if texts:
            break
    return "\n".join(texts)


def counts(shown: str) -> dict[str, int]:
    """Read a Series of counts, those that are not 0."""
    lines = [line.split() for line in shown.splitlines()[1:-1]]
    return {name: int(count) for name, count in lines if int(count)}
