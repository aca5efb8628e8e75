"""A fault of ours in a step of a run ends that run.

An event loop logs what its callbacks raise, and goes on: the rest of such a step would never come, and
whoever waits for the run would wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["Failing", "watched"]


class Failing(Protocol):
    """What can be ended by a fault."""

    def fail(self, error: Exception) -> None:
        """End with *error*."""


S = TypeVar("S", bound=Failing)
P = ParamSpec("P")
R = TypeVar("R")


def watched(step: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R | None]:
    """Hand to `fail` what *step* raises; it then gives None."""

    @wraps(step)
    def guarded(self: S, /, *args: P.args, **named: P.kwargs) -> R | None:
        try:
            return step(self, *args, **named)
        except Exception as error:
            self.fail(error)
            return None

    return guarded
