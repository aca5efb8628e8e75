"""What a session is begun with, checked, and the strategy that comes of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.execution import options_for
from pllm_notebook.sessions.call import salt_for
from pllm_notebook.sessions.llm_identity import LLMIdentity, model_of
from pllm_notebook.sessions.sender import SessionSender
from pllm_notebook.sessions.session_store import SessionStore
from pllm_notebook.sessions.strategies.barrier import StrategyContext
from pllm_notebook.sessions.strategies.batched import BatchStrategy, DryRunStrategy, HybridStrategy
from pllm_notebook.sessions.strategies.live import AsyncStrategy, Strategy, SyncStrategy
from pllm_notebook.sessions.throttler import Throttler

__all__ = ["BATCH_FROM", "STRATEGIES", "SessionConfig"]

STRATEGIES = ("sync", "async", "batch", "hybrid")
BATCH_FROM = 20
"""In hybrid: what a program asks at one point is many from here on."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """The arguments of `resume_directory`, which says what each is.

    Raises:
        UsageError: For a value outside its range. Nothing was sent.
    """

    strategy: str = "async"
    provider: str | None = None
    model: str | LLMIdentity | None = None
    ignore_cache: bool = False
    rewrite_cache: bool = True
    throttler: Throttler | None = None
    dry_run: bool = False
    confirm: bool = True
    wait: bool = False
    errors: str = "raise"
    log_level: int | str | None = None
    batch_from: int = BATCH_FROM
    max_cost_usd: float | None = None
    max_concurrent: int | None = None
    hash_by: Sequence[str] | None = None

    def __post_init__(self) -> None:
        _check(self.strategy, STRATEGIES, "strategy")
        _check(self.errors, ("raise", "coerce"), "errors")
        options_for({"max_cost_usd": self.max_cost_usd, "wait": self.wait, "confirm": self.confirm})
        if self.provider is not None and (not isinstance(self.provider, str) or not self.provider):
            raise UsageError(f"provider is a provider's name, not {self.provider!r}. Nothing was sent.")
        if self.model is not None:
            model_of(None, self.provider, self.model)
        salt_for(None, self.hash_by, "", 0)
        if self.max_concurrent is not None and not _is_count(self.max_concurrent):
            raise UsageError(
                f"max_concurrent is a whole number of at least 1, or None, not {self.max_concurrent!r}. "
                f"Nothing was sent."
            )
        if self.throttler is not None and not isinstance(self.throttler, Throttler):
            raise UsageError(f"throttler is a pllm.Throttler(…), not {self.throttler!r}. Nothing was sent.")
        if isinstance(self.log_level, str):
            _check(self.log_level, [*logging.getLevelNamesMapping()], "log_level")
        if not self.keep and self.strategy in ("batch", "hybrid"):
            raise UsageError(
                f"strategy={self.strategy!r} brings its answers through the cache, so it cannot go with "
                f"rewrite_cache=False. Nothing was sent."
            )
        if not _is_count(self.batch_from):
            raise UsageError(f"batch_from is a whole number of at least 1, not {self.batch_from!r}. Nothing was sent.")

    @property
    def keep(self) -> bool:
        """Whether answers are stored."""
        return self.rewrite_cache or not self.ignore_cache

    def make(self, session_store: SessionStore, sender: SessionSender) -> Strategy:
        """Make the strategy."""
        context = StrategyContext(
            session_store, sender, self.throttler, self.confirm, self.wait, self.keep, self.max_concurrent
        )
        if self.dry_run:
            return DryRunStrategy(context, "batch" if self.strategy in ("batch", "hybrid") else "async")
        if self.strategy == "hybrid":
            return HybridStrategy(context, self.batch_from)
        kinds: dict[str, type[SyncStrategy | AsyncStrategy | BatchStrategy]] = {
            "sync": SyncStrategy,
            "async": AsyncStrategy,
            "batch": BatchStrategy,
        }
        return kinds[self.strategy](context)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check(value: str, known: Sequence[str], name: str) -> None:
    if value not in known:
        told = ", ".join(map(repr, known))
        raise UsageError(f"{name} is one of {told}, not {value!r}.{guess(str(value), known)} Nothing was sent.")
