"""Execute the notebooks into build/gallery, where the documentation site finds them.

    python tools/gallery.py [NAME ...]

Each runs in its own kernel, in a copy of notebooks/, with an empty cache, so that a page shows what a new user sees.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

__all__ = ["executed"]

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
BUILT = ROOT / "build" / "gallery"


def main(names: list[str]) -> int:
    """Execute these notebooks, or all if none is named. Return the exit code."""
    BUILT.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in [NOTEBOOKS / f"{name}.ipynb" for name in names] or sorted(NOTEBOOKS.glob("*.ipynb")):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            os.environ["PLLM_CACHE_DIR"] = str(Path(place, "cache"))
            copied = shutil.copytree(NOTEBOOKS, Path(place, "notebooks"))
            notebook, error = executed(Path(copied, path.name))
        nbformat.write(notebook, BUILT / path.name)
        print(f"{path.stem}: {time.monotonic() - began:.0f} s", flush=True)
        if error is not None:
            failed += 1
            print(error, file=sys.stderr)
    return 1 if failed else 0


def executed(path: Path) -> tuple[Any, CellExecutionError | None]:
    """Run a notebook in a kernel of this interpreter. Return it with its outputs, and the error that ended it."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # the debugger's remark on frozen modules
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,  # a page shows what outputs hold without a script: tables, not their buttons
        extra_arguments=["--log-level=ERROR"],  # it warns of TCP on loopback
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return notebook, error
    return notebook, None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
