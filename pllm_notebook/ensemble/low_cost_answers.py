"""The low-cost answers of a cascade with a promise, and the model's confidence in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.ensemble.decisions import Decision, EnsembleSpec, decide
from pllm_notebook.ensemble.promise import Promise
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import Outcome

__all__ = ["Confidences", "LowCostAnswer", "LowCostAnswers"]

Numbers = np.ndarray[Any, np.dtype[np.float64]]

Confidences = Callable[[Sequence[Outcome]], Sequence[float]]
"""Returns the confidence of each of some answers of a single model, -inf without one."""


class LowCostAnswer(NamedTuple):
    """The low-cost answer to a group.

    Attributes:
        outcome: The answer, or the reason why there is none.
        decision: How the answer was decided.
        confidence: The lowest confidence among the fields, 0 to 1. -inf without one.
    """

    outcome: Outcome
    decision: Decision
    confidence: float


class LowCostAnswers:
    """Decide the low-cost answers, and keep them by group.

    Args:
        plan: The cascade, with a promise.
        confidences: Returns the confidences of a single model's answers. None if the confidence is the share of
            agreeing samples.

    Attributes:
        of_group: The answers so far.
    """

    def __init__(self, plan: EnsembleSpec, confidences: Confidences | None) -> None:
        assert plan.promise is not None
        self.of_group: dict[int, LowCostAnswer] = {}
        self._promise: Promise = plan.promise
        self._alone = replace(plan, further=None)
        self._first = plan.members[0].spec.target
        self._confidences = confidences

    def __getitem__(self, group: int) -> LowCostAnswer:
        return self.of_group[group]

    def __setitem__(self, group: int, answer: LowCostAnswer) -> None:
        self.of_group[group] = answer

    def __contains__(self, group: int) -> bool:
        return group in self.of_group

    def __len__(self) -> int:
        return len(self.of_group)

    def forget(self, group: int) -> None:
        """Discard the answer to a group that is asked again."""
        self.of_group.pop(group, None)

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes of the answers so far."""
        return [answer.outcome for answer in self.of_group.values()]

    def confidence(self, groups: int) -> Numbers:
        """Return the confidence of each group, -inf without an answer. Shape (groups,)."""
        known = np.full(groups, -np.inf)
        for group, answer in self.of_group.items():
            known[group] = answer.confidence
        return known

    def decided(self, outcomes: Mapping[int, Sequence[Outcome]]) -> list[LowCostAnswer]:
        """Return the low-cost answers to some groups, in order. Runs in a worker.

        Args:
            outcomes: The outcomes of each group's members.

        Raises:
            PllmError: If the model returns no token probabilities.
        """
        made = []
        for own in outcomes.values():
            decision = decide(self._alone, own, None, str)
            assert decision is not None  # no judge is asked
            made.append(decision)
        if self._confidences is None:
            sure = [self._share(own, one) for own, (_, one) in zip(outcomes.values(), made, strict=True)]
        else:
            sure = list(self._confidences([own[0] for own in outcomes.values()]))
            self._check_given(made, sure)
        return [LowCostAnswer(*one, confidence) for one, confidence in zip(made, sure, strict=True)]

    def _share(self, outcomes: Sequence[Outcome], decision: Decision) -> float:
        """Return the share of a group's samples that agree, in the field where fewest do. Failed ones do not agree."""
        if not decision.agreement:
            return -np.inf
        answered = sum(outcome.failure is None for outcome in outcomes)
        least = min(decision.agreement[field.at] for field in self._promise.fields)
        return least * answered / len(self._alone.members)

    def _check_given(self, made: Sequence[tuple[Outcome, Decision]], sure: Sequence[float]) -> None:
        """Raise an error if the model returns no token probabilities: no low-cost answer could ever be kept."""
        if self._first.quirks.gives_tokens is not False or all(outcome.failure for outcome, _ in made):
            return
        known = (*sure, *(answer.confidence for answer in self.of_group.values()))
        if not any(one > -np.inf for one in known):
            raise PllmError(
                f"{self._first.label} returns no token probabilities, which guarantee= needs. Use for example "
                f"samples=5, whose agreement is the confidence, or another low-cost model. Answers so far are kept."
            )
