"""The lane of a target: what ties the engine, which knows no provider, to one."""

from __future__ import annotations

import orjson

from pllm_notebook.engine import Engine, Lane, Limiter
from pllm_notebook.providers import Target
from pllm_notebook.records import Failure, LimitReport, RawReply

__all__ = ["lane_of"]


def lane_of(engine: Engine, target: Target) -> Lane:
    """Give the one lane for this account and model. Call it on the engine's loop."""

    def heal(failure: Failure, content: bytes) -> bool:
        return target.heal(failure, orjson.loads(content))

    def limits(raw: RawReply) -> LimitReport | None:
        return target.wire.limits(raw.headers)

    def make(limiter: Limiter) -> Lane:
        return Lane(
            target.label, target.path, target.connect, target.read, heal, limits, limiter, engine.rng
        )  # fmt: skip

    return engine.lane(target.lane, make, slots=target.slots, known=None)
