"""The low-cost answers of a cascade with a promise, and how sure the model is of each."""

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
"""Returns the confidence of each of some answers of a single model, -inf for none."""


class LowCostAnswer(NamedTuple):
    """The low-cost answer to a group.

    Attributes:
        outcome: It, or why there is none.
        decision: How it was decided.
        confidence: In its least sure field, 0 to 1; -inf for none.
    """

    outcome: Outcome
    decision: Decision
    confidence: float


class LowCostAnswers:
    """Decide the low-cost answers, and keep them by group.

    Args:
        plan: Of the cascade, with a promise.
        confidences: Of a single model's answers; None where they are the share of its samples.

    Attributes:
        of_group: The answers so far.
    """

    def __init__(self, plan: EnsembleSpec, confidences: Confidences | None) -> None:
        assert plan.promise is not None
        self.of_group: dict[int, LowCostAnswer] = {}
        self._promise: Promise = plan.promise
        self._alone = replace(plan, further=None)
        self._first = plan.members[0].ask.target
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
        """Forget the answer to a group, which is asked again."""
        self.of_group.pop(group, None)

    def outcomes(self) -> list[Outcome]:
        """Return what the answers so far are, or why there are none."""
        return [answer.outcome for answer in self.of_group.values()]

    def confidence(self, groups: int) -> Numbers:
        """Return the confidence of each of so many groups, -inf for one without an answer; shape (groups,)."""
        known = np.full(groups, -np.inf)
        for group, answer in self.of_group.items():
            known[group] = answer.confidence
        return known

    def decided(self, outcomes: Mapping[int, Sequence[Outcome]]) -> list[LowCostAnswer]:
        """Return the low-cost answers to some groups, in order. In a worker.

        Args:
            outcomes: Of each group's members.

        Raises:
            PllmError: When the model turns out to give no token probabilities.
        """
        made = []
        for own in outcomes.values():
            decision = decide(self._alone, own, None, str)
            assert decision is not None  # nothing further is asked
            made.append(decision)
        if self._confidences is None:
            sure = [self._share(own, one) for own, (_, one) in zip(outcomes.values(), made, strict=True)]
        else:
            sure = list(self._confidences([own[0] for own in outcomes.values()]))
            self._check_given(made, sure)
        return [LowCostAnswer(*one, confidence) for one, confidence in zip(made, sure, strict=True)]

    def _share(self, outcomes: Sequence[Outcome], decision: Decision) -> float:
        """Return the share of a group's samples that agree in the field where fewest do; a failed one does not."""
        if not decision.agreement:
            return -np.inf
        answered = sum(outcome.failure is None for outcome in outcomes)
        least = min(decision.agreement[field.at] for field in self._promise.fields)
        return least * answered / len(self._alone.members)

    def _check_given(self, made: Sequence[tuple[Outcome, Decision]], sure: Sequence[float]) -> None:
        """Stop where the model turns out to give no token probabilities: nothing could ever be kept."""
        if self._first.quirks.gives_tokens is not False or all(outcome.failure for outcome, _ in made):
            return
        known = (*sure, *(answer.confidence for answer in self.of_group.values()))
        if not any(one > -np.inf for one in known):
            raise PllmError(
                f"{self._first.label} gives no token probabilities, which guarantee= needs. Give samples=5, for "
                f"example, whose agreement is the confidence, or another low-cost model. What is answered is kept."
            )
