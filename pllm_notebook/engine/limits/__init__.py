"""When the next call may be sent: the provider's limits, reported or inferred, and the user's own."""

from pllm_notebook.engine.limits.limit_division import LimitDivision
from pllm_notebook.engine.limits.limiter import FIRST_WINDOW, MAX_WINDOW, LearnedLimits, Limiter, Permit
from pllm_notebook.engine.limits.user_limit import AccountRateLimit, UserRateLimit

__all__ = [
    "FIRST_WINDOW",
    "MAX_WINDOW",
    "AccountRateLimit",
    "LearnedLimits",
    "LimitDivision",
    "Limiter",
    "Permit",
    "UserRateLimit",
]
