"""The options of `resume_directory`. Made from the fields of `SessionConfig` by `make options`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from pllm_notebook.sessions.llm_identity import LLMIdentity
from pllm_notebook.sessions.throttler import Throttler

__all__ = ["SessionOptions"]


class SessionOptions(TypedDict, total=False):
    """Options of `resume_directory`."""

    strategy: Literal["sync", "async", "concurrent", "batch", "hybrid"]
    provider: str | None
    model: str | LLMIdentity | None
    ignore_cache: bool
    rewrite_cache: bool
    throttler: Throttler | None
    dry_run: bool
    confirm: bool
    wait: bool
    errors: Literal["raise", "coerce"]
    log_level: int | str | None
    batch_from: int
    max_cost_usd: float | None
    max_concurrent: int | None
    hash_by: str | Sequence[str] | None
