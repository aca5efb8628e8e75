"""Names of `failures` and `types`, until their users import them from there."""

from pllm_notebook.failures import FailedCall, Failure, FailureKind, truncate
from pllm_notebook.types import (
    BatchLimits,
    BatchResult,
    Finish,
    LimitReport,
    Price,
    Progress,
    RawReply,
    RemoteJob,
    Reply,
    Spent,
    Usage,
)

__all__ = [
    "BatchLimits",
    "BatchResult",
    "FailedCall",
    "Failure",
    "FailureKind",
    "Finish",
    "LimitReport",
    "Price",
    "Progress",
    "RawReply",
    "RemoteJob",
    "Reply",
    "Spent",
    "Usage",
    "truncate",
]
