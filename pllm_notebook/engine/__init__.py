"""The event loop, its dispatchers, rate limits and retries. The engine knows calls, not rows, models or providers."""

from pllm_notebook.engine.dispatcher import Dispatcher
from pllm_notebook.engine.in_flight import cancelled
from pllm_notebook.engine.limits import AccountRateLimit, LearnedLimits, LimitDivision, Limiter, UserRateLimit
from pllm_notebook.engine.request_completion import Endpoint
from pllm_notebook.engine.retry import RetryBounds
from pllm_notebook.engine.run_queue import RunQueue, SendPolicy
from pllm_notebook.engine.shared_engine import Engine, engine, shutdown
from pllm_notebook.engine.waiting import EndEvent, await_end, block_until, hold_at_exit

__all__ = [
    "AccountRateLimit",
    "Dispatcher",
    "EndEvent",
    "Endpoint",
    "Engine",
    "LearnedLimits",
    "LimitDivision",
    "Limiter",
    "RetryBounds",
    "RunQueue",
    "SendPolicy",
    "UserRateLimit",
    "await_end",
    "block_until",
    "cancelled",
    "engine",
    "hold_at_exit",
    "shutdown",
]
