"""How sure the simulator is of an answer, and how often it is wrong: a known model, which it may state otherwise.

With `known_errors` each value that has options has a chance of its own to be wrong, between nothing and twice that
share, and is then another option. The chance to be right is the probability that is stated, unless `miscalibration`
bends it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pllm_notebook.sim.draws import Draws, share

__all__ = ["EXACT", "KnownModel", "bent"]

_LEAST = 1e-4


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What the options say of it.

    Attributes:
        errors: Mean share of values that are wrong.
        miscalibration: As in `SimOptions`.
        refused: Share of questions that a decision endpoint refuses.
    """

    errors: float = 0.0
    miscalibration: Mapping[str, float] = field(default_factory=dict)
    refused: float = 0.0

    def refuses(self, key: bytes, name: str) -> bool:
        """Return whether the question is refused."""
        return self.refused > 0 and share(key, f"refused {name}".encode()) < self.refused

    def answered(self, key: bytes, name: str, options: int, value: int) -> tuple[int, list[float]]:
        """Return the option that is answered, and the probability of each that is stated.

        Args:
            key: Of the request.
            name: Of the field or the question.
            options: How many there are.
            value: Position of the right one.
        """
        draws = Draws(key + f"known {name}".encode())
        if not self.errors:
            weights = [draws.unit() for _ in range(options)]
            weights[value] += options
            return value, self._spread(weights[value] / sum(weights), weights, value)
        wrong = draws.unit() * min(2 * self.errors, 1 - 1 / options)
        if draws.unit() < wrong:
            value = (value + 1 + draws.below(options - 1)) % options
        return value, self._spread(1 - wrong, [draws.unit() + 1 for _ in range(options)], value)

    def _spread(self, right: float, weights: Sequence[float], value: int) -> list[float]:
        options = len(weights)
        if options == 1:
            return [1.0]
        stated = max(bent(right, self.miscalibration), 1 / options)
        others = sum(weights) - weights[value]
        p = [(1 - stated) * weight / others for weight in weights]
        if max(one for at, one in enumerate(p) if at != value) > stated:  # the answer is the most probable one
            p = [(1 - stated) / (options - 1)] * options
        p[value] = stated
        return p


EXACT = KnownModel()
"""It is always right, and says how sure it is."""


def bent(p: float, miscalibration: Mapping[str, float]) -> float:
    """Return the probability that is stated for one that is true.

    Args:
        p: The true one.
        miscalibration: "temperature" or "slope" multiply its logit, "shift" adds to it; it is at least "plateau".
    """
    inside = min(max(p, _LEAST), 1 - _LEAST)
    logit = math.log(inside / (1 - inside))
    logit *= miscalibration.get("temperature", 1.0) * miscalibration.get("slope", 1.0)
    logit += miscalibration.get("shift", 0.0)
    stated = 1 / (1 + math.exp(-logit)) if miscalibration else p
    return max(stated, miscalibration.get("plateau", 0.0))
