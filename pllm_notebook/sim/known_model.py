"""A simulated model with a known error rate and known confidence, calibrated or not.

With `known_errors`, each value that has options is replaced by another option with its own probability, between zero
and twice that rate. The stated probability is the probability of being right, unless `miscalibration` distorts it.
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
    """Error rate, miscalibration and refusal rate of the simulated model.

    Attributes:
        errors: Mean share of wrong values.
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
        """Return the position of the answered option, and the stated probability of each option.

        Args:
            key: Key of the request.
            name: Name of the field or the question.
            options: Number of options.
            value: Position of the correct option.
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
        if max(one for at, one in enumerate(p) if at != value) > stated:  # the answer must be the most probable option
            p = [(1 - stated) / (options - 1)] * options
        p[value] = stated
        return p


EXACT = KnownModel()
"""Always right, with calibrated probabilities."""


def bent(p: float, miscalibration: Mapping[str, float]) -> float:
    """Return the stated probability for a true probability.

    Args:
        p: The true probability.
        miscalibration: "temperature" and "slope" multiply the logit, "shift" is added to it, and "plateau" is the
            minimum of the result.
    """
    inside = min(max(p, _LEAST), 1 - _LEAST)
    logit = math.log(inside / (1 - inside))
    logit *= miscalibration.get("temperature", 1.0) * miscalibration.get("slope", 1.0)
    logit += miscalibration.get("shift", 0.0)
    stated = 1 / (1 + math.exp(-logit)) if miscalibration else p
    return max(stated, miscalibration.get("plateau", 0.0))
