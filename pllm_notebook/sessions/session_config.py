"""The validated arguments of a session, and the strategy that they select."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pllm_notebook.exceptions import UsageError
from pllm_notebook.options import check, fields_of, is_number, one_of, option
from pllm_notebook.providers import canonical
from pllm_notebook.sessions.call import salt_for
from pllm_notebook.sessions.llm_identity import LLMIdentity, model_of
from pllm_notebook.sessions.sender import SessionSender
from pllm_notebook.sessions.session_store import SessionStore
from pllm_notebook.sessions.strategies.barrier import StrategyContext
from pllm_notebook.sessions.strategies.batched import BatchStrategy, DryRunStrategy, HybridStrategy
from pllm_notebook.sessions.strategies.live import AsyncStrategy, Strategy, SyncStrategy
from pllm_notebook.sessions.throttler import Throttler

__all__ = ["BATCH_FROM", "SessionConfig"]

BATCH_FROM = 20
"""In "hybrid", the minimum number of calls that are submitted as a batch."""

# Value of `provider` for each model's own provider.
_EVERY = "multi"
_CHECKED_BELOW: tuple[str, Callable[[Any], bool]] = ("", lambda _: True)


def _is_level(value: Any) -> bool:
    return value in logging.getLevelNamesMapping() if isinstance(value, str) else is_number(value, whole=True)


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """The arguments of `resume_directory`, where each is documented.

    Raises:
        UsageError: For a value out of range. Nothing was sent.
    """

    strategy: Literal["sync", "async", "concurrent", "batch", "hybrid"] = option(
        "async",
        '`"async"` sends each call as it is made, and waits where a value is needed; `"sync"` sends one at a time; '
        '`"batch"` gathers calls until a value is needed, submits them as batch jobs and ends the block there, and the '
        'program resumes when it is run again; `"hybrid"` submits what is many, and sends live what the program waits '
        'for alone. `"concurrent"` is `"async"`.',
    )
    provider: str | None = option(
        None,
        'Provider of models named without one. None or `"multi"`: the one that a model\'s name shows.',
        expects=("a provider's name", lambda value: isinstance(value, str) and bool(value)),
    )
    model: str | LLMIdentity | None = option(
        None,
        "Model of calls that name none. None: the provider's current low-cost model, else the configured one.",
        expects=_CHECKED_BELOW,
    )
    ignore_cache: bool = option(False, "Send every call again, whatever is stored.")
    rewrite_cache: bool = option(
        True, "With `ignore_cache`, replace what is stored; otherwise the new answers are not stored."
    )
    throttler: Throttler | None = option(
        None,
        "A pace of your own. None: no other than the provider's.",
        expects=("a pllm.Throttler(…)", lambda value: isinstance(value, Throttler)),
        variable=False,
    )
    dry_run: bool = option(
        False,
        "End the block at the first missing value, with the calls, tokens and cost of what would be sent next. Nothing "
        "is sent.",
    )
    confirm: bool = option(True, "Ask before batch jobs are submitted.")
    wait: bool = option(False, "Wait for batch jobs instead of ending the block.")
    errors: Literal["raise", "coerce"] = option(
        "raise",
        '`"raise"` ends the program at the first call that failed: where it is made with `"sync"`, where its value is '
        'needed otherwise. `"coerce"` logs failures and goes on; `resolve_all` then gives an `ErrorResponse` in the '
        "value's place, `reply.failed` is True, and `resolve` raises it.",
    )
    log_level: int | str | None = option(
        None,
        "Level of the logger `pllm_notebook` within the block. None: unchanged.",
        expects=(one_of(tuple(logging.getLevelNamesMapping())), _is_level),
    )
    batch_from: int = option(
        BATCH_FROM, 'With `"hybrid"`: this many calls at one point are submitted as a batch.', at_least=1
    )
    max_cost_usd: float | None = option(
        None,
        "Ceiling for everything that this run of the program sends, live and by batch, in US dollars. What was stored "
        "before, or waits in a job of an earlier run, is not counted. None: no ceiling.",
        at_least=0,
    )
    max_concurrent: int | None = option(
        None,
        "Maximum number of the session's calls in flight; batch jobs are not counted. None: as many as the provider "
        "allows.",
        at_least=1,
    )
    hash_by: tuple[str, ...] | None = option(
        None,
        "`hash_by` of every call that has none of its own (see `Agent.ask_llm`). None: equal calls are one.",
        accepts="str | Sequence[str] | None",
        expects=_CHECKED_BELOW,
    )

    def __post_init__(self) -> None:
        known = fields_of(SessionConfig)
        check(known, {name: getattr(self, name) for name in known}, allow_none=False)
        if self.strategy == "concurrent":
            object.__setattr__(self, "strategy", "async")
        if self.provider is not None:
            object.__setattr__(self, "provider", None if self.provider == _EVERY else canonical(self.provider))
        if self.model is not None:
            model_of(None, self.provider, self.model)
        salt_for(None, self.hash_by, "", 0)
        if not self.keep and self.strategy in ("batch", "hybrid"):
            raise UsageError(
                f"strategy={self.strategy!r} receives its answers through the cache, so it cannot be combined with "
                f"rewrite_cache=False. Nothing was sent."
            )

    @property
    def keep(self) -> bool:
        """Whether answers are stored."""
        return self.rewrite_cache or not self.ignore_cache

    def make_strategy(self, session_store: SessionStore, sender: SessionSender) -> Strategy:
        """Build the session's strategy."""
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
