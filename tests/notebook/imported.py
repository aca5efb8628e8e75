"""What a kernel of these tests has imported when it begins. No SDK: some tests watch when one is loaded."""

from __future__ import annotations

import builtins
import importlib
from types import SimpleNamespace

NAMES = (
    "pandas",
    "aiohttp",
    "diskcache",
    "genai_prices",
    "httpx2",
    "ipykernel.kernelapp",
    "ipykernel.zmqshell",
    "ipywidgets",
    "pllm_notebook.frames.pandas.adapter",
    "pllm_notebook.notebook.magics",
    "pllm_notebook.sessions",
    "pllm_notebook.prompt_lists",
    "pllm_notebook.execution",
    "pllm_notebook.sim",
    "pllm_notebook.store",
)

# pandas asks when it is imported whether it is in a kernel.
builtins.get_ipython = lambda: SimpleNamespace(kernel=True)  # type: ignore[attr-defined]
for name in NAMES:
    importlib.import_module(name)
del builtins.get_ipython  # type: ignore[attr-defined]
