"""The dispatcher of a target: the link between the engine, which knows no provider, and a provider."""

from __future__ import annotations

import orjson

from pllm_notebook.engine import Dispatcher, Endpoint, Engine, LearnedLimits, Limiter
from pllm_notebook.execution.learned_limits import LimitCache
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.records import Failure, LimitReport, RawReply

__all__ = ["dispatcher_for"]


def dispatcher_for(engine: Engine, target: ResolvedModel, limit_cache: LimitCache | None) -> Dispatcher:
    """Return the one dispatcher for this account and model. Call it on the engine's loop.

    Args:
        engine: The engine.
        target: The model.
        limit_cache: Learned limits of earlier runs, which a new dispatcher starts with; None for none.
    """

    def adapt(failure: Failure, content: bytes) -> bool:
        return target.adapt(failure, orjson.loads(content))

    def limits(raw: RawReply) -> LimitReport | None:
        return target.wire.limits(raw.headers)

    def make(limiter: Limiter) -> Dispatcher:
        endpoint = Endpoint(target.label, target.path, target.connect, target.read, adapt, limits)
        return Dispatcher(endpoint, limiter, engine.rng)

    def learned() -> LearnedLimits | None:
        return None if limit_cache is None else limit_cache.known(target.dispatcher_key)

    return engine.dispatcher(target.dispatcher_key, make, max_parallel=target.max_parallel, learned=learned)
