"""The lane of a target: what ties the engine, which knows no provider, to one."""

from __future__ import annotations

import orjson

from pllm_notebook.engine import Engine, Known, Lane, Limiter
from pllm_notebook.execution.learned_limits import LimitCache
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.records import Failure, LimitReport, RawReply

__all__ = ["dispatcher_for"]


def dispatcher_for(engine: Engine, target: ResolvedModel, limit_cache: LimitCache | None) -> Lane:
    """Return the one lane for this account and model. Call it on the engine's loop.

    Args:
        engine: The engine.
        target: The model.
        limit_cache: Where a lane that is made now finds what was learned of its limits, None for nowhere.
    """

    def heal(failure: Failure, content: bytes) -> bool:
        return target.adapt(failure, orjson.loads(content))

    def limits(raw: RawReply) -> LimitReport | None:
        return target.wire.limits(raw.headers)

    def make(limiter: Limiter) -> Lane:
        return Lane(
            target.label, target.path, target.connect, target.read, heal, limits, limiter, engine.rng
        )  # fmt: skip

    def known() -> Known | None:
        return None if limit_cache is None else limit_cache.known(target.lane)

    return engine.lane(target.lane, make, slots=target.max_parallel, known=known)
