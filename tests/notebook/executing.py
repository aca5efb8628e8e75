"""Run a whole notebook of the project, as a reader would: every cell, in a kernel of its own.

The kernel has pandas and this package imported when it begins; `tests/test_quickstart.py` starts a real one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from tests.notebook.kernels import specs_in

__all__ = ["executed"]

_NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


def executed(name: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Execute the notebook *name* in *directory*, with a cache of its own there, and give it with its outputs.

    A cell that fails fails the test.
    """
    monkeypatch.setenv("PLLM_CACHE_DIR", str(directory / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(directory / "ipython"))
    notebook = nbformat.read(_NOTEBOOKS / name, as_version=4)
    manager = AsyncKernelManager(kernel_name="tested", kernel_spec_manager=specs_in(directory / "jupyter"))
    NotebookClient(notebook, km=manager, timeout=300, resources={"metadata": {"path": str(directory)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.output_type == "error"] == []
    return notebook
