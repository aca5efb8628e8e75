"""The package as a whole: its names, what importing it costs, and its layers' contract."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pllm_notebook

HEAVY = [
    "openai",
    "anthropic",
    "google.genai",
    "xllamacpp",
    "ipywidgets",
    "IPython",
    "diskcache",
    "genai_prices",
    "tqdm",
]


def loaded_after(code: str) -> set[str]:
    told = f"{code}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(eval(done.stdout))


def test_importing_loads_no_sdk_and_no_widget_library() -> None:
    assert loaded_after("import pllm_notebook") == set()


def test_asking_one_provider_loads_no_other() -> None:
    code = (
        "import pandas as pd, pllm_notebook\n"
        "pd.DataFrame({'t': ['a']}).llm.estimate(bool, '{t}', model='anthropic:claude-haiku-5-5')"
    )

    assert loaded_after(code) & {"openai", "google.genai", "xllamacpp", "ipywidgets"} == set()


def test_all_is_sorted_and_every_name_is_there() -> None:
    assert pllm_notebook.__all__ == sorted(pllm_notebook.__all__)
    assert all(hasattr(pllm_notebook, name) for name in pllm_notebook.__all__)


def test_the_version_is_the_installed_one() -> None:
    assert pllm_notebook.__version__ == metadata.version("pllm_notebook")
