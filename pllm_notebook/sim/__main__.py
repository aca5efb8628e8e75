"""Entry point of the simulator's process, started by `Simulator` with the control socket's number as argument."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

if "pllm_notebook" not in sys.modules:
    # Run by path, this file has no parent package. An empty one lets the modules below be imported
    # without the package's own `__init__`, which imports pandas (0.5 s).
    _package = ModuleType("pllm_notebook")
    _package.__path__ = [str(Path(__file__).resolve().parent.parent)]
    sys.modules["pllm_notebook"] = _package

from pllm_notebook.sim.server import serve

if __name__ == "__main__":
    serve(int(sys.argv[1]))
