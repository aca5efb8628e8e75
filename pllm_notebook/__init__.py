r"""Ask a language model the same question of every row of a dataframe, from a notebook.

    import pllm_notebook as pllm
    out = df.llm.parse(Review, "Read this review:\n{text}", model="openai:gpt-6-luna")

Importing this registers `df.llm` and `series.llm` and loads no SDK and no widget library.
`%load_ext pllm_notebook` adds `%%pllm` and `%pllm`.
"""

from __future__ import annotations

from typing import Any

from pllm_notebook import run
from pllm_notebook.exceptions import NotAvailableYetError, PllmError
from pllm_notebook.frames import pandas as _accessors  # noqa: F401  # importing it registers df.llm
from pllm_notebook.protocols import Sink
from pllm_notebook.run import Run, runs
from pllm_notebook.settings import configure
from pllm_notebook.store import CacheHandle, open_store

__all__ = [
    "NotAvailableYetError",
    "PllmError",
    "Run",
    "cache",
    "configure",
    "errors",
    "jobs",
    "load_ipython_extension",
    "runs",
    "unload_ipython_extension",
]
__version__ = "0.1.0"

cache = CacheHandle(open_store)
"""The store of answers: `.info()`, `.export(path)`, `.import_(path)`, `.clear(model=, older_than=)`, `.check()`."""


def errors() -> Any:
    """Give the failed rows of the newest run (see `df.llm.errors`)."""
    known = runs()
    if not known:
        raise PllmError("Nothing has been run in this session yet.")
    return known[-1].errors


def jobs() -> Any:
    """Give the providers' batch jobs."""
    raise NotAvailableYetError("pllm.jobs()")


def load_ipython_extension(shell: Any) -> None:
    """Add the magics (`%load_ext pllm_notebook`)."""
    from pllm_notebook.notebook import magics

    magics.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away again (`%unload_ext pllm_notebook`)."""
    from pllm_notebook.notebook import magics

    magics.unload(shell)


def _display() -> Sink | None:
    from pllm_notebook.notebook import displays

    return displays.for_here()


run.register(_display)
