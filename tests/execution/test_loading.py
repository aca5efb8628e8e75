"""What is loaded before the first call, so that nothing is half loaded during one."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Google's SDK, which imports it, may not be there; then nobody loads it during a call either.
pytest.importorskip("httpx")

_LOAD = """
import sys
from pllm_notebook.execution.asked_model import resolve_model
from pllm_notebook.settings import resolve

resolve_model(resolve({"model": "sim:openai"})).load()
print("openai" in sys.modules, hasattr(sys.modules.get("httpx"), "Response"))
"""


def test_what_openais_client_looks_for_at_each_response_is_loaded_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "True"]
