r"""Ask a language model the same question of every row of a dataframe, from a notebook.

    import pllm_notebook as pllm
    out = df.llm.parse(Review, "Read this review:\n{text}", model="openai:gpt-6-luna")

Importing this registers `df.llm` and `series.llm` and takes hardly longer than importing pandas: what asks,
Pydantic with it, is loaded with the first use, an SDK with the first call, a widget library with the first display.
`%load_ext pllm_notebook` adds `%%pllm` and `%pllm`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pllm_notebook import frames as _accessors  # noqa: F401  # importing it registers df.llm
from pllm_notebook import sinks
from pllm_notebook.exceptions import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    DecisionMakerError,
    FailedProcessor,
    LLMTimeoutError,
    LLMValidationError,
    ModelError,
    NotAvailableYetError,
    ParallelLLMError,
    PllmError,
    ProcessingError,
    RateLimitError,
)
from pllm_notebook.settings import configure

if TYPE_CHECKING:
    from pllm_notebook.ensemble import DECISION_MAKER_PROMPT, Vote
    from pllm_notebook.ensemble.config import (
        FrameworkConfig,
        create_default_config,
        create_development_config,
        create_performance_config,
        create_robust_config,
    )
    from pllm_notebook.ensemble.parallel import ParallelLLM, create_framework
    from pllm_notebook.protocols import Sink
    from pllm_notebook.run import Run, runs
    from pllm_notebook.store.handle import cache

__all__ = [  # noqa: RUF022  # in plain order: a constant among the classes has no other place
    "APIError",
    "AuthenticationError",
    "ConfigurationError",
    "DECISION_MAKER_PROMPT",
    "DecisionMakerError",
    "FailedProcessor",
    "FrameworkConfig",
    "LLMTimeoutError",
    "LLMValidationError",
    "ModelError",
    "NotAvailableYetError",
    "ParallelLLM",
    "ParallelLLMError",
    "PllmError",
    "ProcessingError",
    "RateLimitError",
    "Run",
    "Vote",
    "cache",
    "configure",
    "create_default_config",
    "create_development_config",
    "create_framework",
    "create_performance_config",
    "create_robust_config",
    "errors",
    "jobs",
    "load_ipython_extension",
    "runs",
    "unload_ipython_extension",
]
__version__ = "0.1.0"

# Names whose modules are loaded when the name is first used.
_HOMES = {
    "DECISION_MAKER_PROMPT": "pllm_notebook.ensemble",
    "FrameworkConfig": "pllm_notebook.ensemble.config",
    "ParallelLLM": "pllm_notebook.ensemble.parallel",
    "Run": "pllm_notebook.run",
    "Vote": "pllm_notebook.ensemble",
    "cache": "pllm_notebook.store.handle",
    "create_default_config": "pllm_notebook.ensemble.config",
    "create_development_config": "pllm_notebook.ensemble.config",
    "create_framework": "pllm_notebook.ensemble.parallel",
    "create_performance_config": "pllm_notebook.ensemble.config",
    "create_robust_config": "pllm_notebook.ensemble.config",
    "runs": "pllm_notebook.run",
}

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted(globals().keys() | _HOMES)


def errors() -> Any:
    """Give the failed rows of the newest run (see `df.llm.errors`)."""
    from pllm_notebook.run import runs

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


sinks.register(_display)
