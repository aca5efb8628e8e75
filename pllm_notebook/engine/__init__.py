"""The one loop, its dispatchers, limits and retries. Knows calls, not rows, models or providers."""

from pllm_notebook.engine.ceiling import AccountCeiling, Ceiling
from pllm_notebook.engine.engine import Engine, engine, shutdown
from pllm_notebook.engine.feed import Feed, Job, Landing
from pllm_notebook.engine.lane import Lane
from pllm_notebook.engine.limiter import Known, Limiter
from pllm_notebook.engine.loop import hold_at_exit
from pllm_notebook.engine.patience import Patience

__all__ = [
    "AccountCeiling",
    "Ceiling",
    "Engine",
    "Feed",
    "Job",
    "Known",
    "Landing",
    "Lane",
    "Limiter",
    "Patience",
    "engine",
    "hold_at_exit",
    "shutdown",
]
