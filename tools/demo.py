"""Run the quickstart in a kernel, save it with its outputs, and print its main results.

PLLM_DEMO_MODEL names the model; the default is the small local one.
"""

from __future__ import annotations

import html
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from gallery import executed
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
BUILT = ROOT / "build" / "demo"
# A page that loads nothing: its outputs are plain HTML, without mathematics, diagrams or widgets.
PAGE = "{% extends 'lab/index.html.j2' %}" + "".join(
    f"{{% block {name} %}}{{% endblock %}}"
    for name in ("html_head_js", "html_head_js_mathjax", "html_head_js_mermaidjs")
)


def main() -> int:
    """Run and save the notebook, and print its table; return the exit code."""
    model = os.environ.setdefault("PLLM_DEMO_MODEL", "local:smollm2")
    print(f"Running {NOTEBOOK.relative_to(ROOT)} with {model} ...", flush=True)
    began = time.monotonic()
    notebook, error = executed(NOTEBOOK)
    BUILT.mkdir(parents=True, exist_ok=True)
    saved, page = BUILT / NOTEBOOK.name, (BUILT / NOTEBOOK.name).with_suffix(".html")
    nbformat.write(notebook, saved)
    body, _ = HTMLExporter(raw_template=PAGE).from_notebook_node(notebook)
    page.write_text(body, encoding="utf-8")
    if error is not None:
        print(error, file=sys.stderr)
    else:
        for tag in ("table", "score", "compared"):
            print(text_of(notebook, tag), end="\n\n")
        print(f"Done in {time.monotonic() - began:.0f} s. Look at")
    print(f"  {page.relative_to(ROOT)}\n  {saved.relative_to(ROOT)}")
    return 1 if error else 0


def text_of(notebook: Any, tag: str) -> str:
    """Return what the cell with this tag showed last, as plain text."""
    cell = next(cell for cell in notebook.cells if tag in cell.metadata.get("tags", ()))
    output = cell.outputs[-1]
    text = output.text if output.output_type == "stream" else output.data["text/plain"]
    return html.unescape(str(text)).rstrip()


if __name__ == "__main__":
    sys.exit(main())
