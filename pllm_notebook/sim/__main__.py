"""The simulator's own process. Started by `Simulator`; its one argument is the control socket's number."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

if "pllm_notebook" not in sys.modules:
    # Run by path, this file finds no parent package. A bare one in its place lets the modules
    # below be imported without the package's own `__init__`, which brings pandas (0.5 s).
    _package = ModuleType("pllm_notebook")
    _package.__path__ = [str(Path(__file__).resolve().parent.parent)]
    sys.modules["pllm_notebook"] = _package

from pllm_notebook.sim.server import serve

if __name__ == "__main__":
    serve(int(sys.argv[1]))
