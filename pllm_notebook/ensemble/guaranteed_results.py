"""A cascade with `guarantee=`: a certified threshold decides which rows the strong model answers.

    the low-cost model answers every row
    the strong model answers a sample of the rows, drawn by position
    a threshold is certified; a larger sample is drawn while it is likely to let more rows keep their low-cost answer
    rows at or above the threshold keep the low-cost answer; the strong model answers the rest

Each step begins when no call of the previous step is in flight. The strong model gets the plain question, so its
answers are those of a plain run. The sample is drawn from row positions, not from distinct questions, because the
promise is about rows. Strong answers known for a reason other than the draw are used but never counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from pllm_notebook.ensemble.decisions import Decision, EnsembleSpec
from pllm_notebook.ensemble.ensemble_results import EnsembleResults
from pllm_notebook.ensemble.ensemble_rows import EnsembleRows
from pllm_notebook.ensemble.guarantee_figures import GuaranteeFigures, GuaranteeState
from pllm_notebook.ensemble.low_cost_answers import Confidences, LowCostAnswer, LowCostAnswers
from pllm_notebook.ensemble.promise import Promise
from pllm_notebook.ensemble.sample_looks import Look, look_at
from pllm_notebook.execution import UNPLANNED, Outcome, ResultTable
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Prompt
from pllm_notebook.types import Spent

__all__ = ["GuaranteedResults"]

_LOOK = (-1, None)
_PRICED = 1_000
"""Maximum number of answers whose cost is read, spread evenly over all."""

_UNSENT = (FailureKind.BUDGET, FailureKind.NOT_CACHED)


class GuaranteedResults(EnsembleResults):
    """Decide the rows of a cascade by a certified threshold (see `Decider`).

    Args:
        plan: The ensemble, with a promise.
        rows: The rows of the run.
        results: The run's calls.
        confidences: Returns the confidences of a single model's answers. None if the confidence is the share of
            agreeing samples.
    """

    def __init__(
        self, plan: EnsembleSpec, rows: EnsembleRows, results: ResultTable, confidences: Confidences | None
    ) -> None:
        super().__init__(plan, rows, results)
        assert plan.promise is not None
        assert plan.further is not None
        self._promise: Promise = plan.promise
        self._strong = plan.further.target.label
        self._first = plan.members[0].spec.target
        self._kept = LowCostAnswers(plan, confidences)
        self._state: GuaranteeState | Literal["asking"] = "asking"
        self._is_due = False
        # Whether every low-cost answer has arrived or failed for good.
        self._is_complete = False
        self._asked: set[int] = set()
        self._look = Look()
        self._rows_asked = self._kept_rows = self._escalated_rows = 0

    @property
    def is_busy(self) -> bool:
        """Whether any group has yet to be decided, sent to the strong model or certified."""
        return self._state == "asking" or super().is_busy

    # Deciding.

    def take_ready(self) -> Sequence[Any]:
        """Return the groups that can be decided, or the sample if a look at it is due."""
        if self._is_due:
            self._is_due = False
            self._deciding = 1
            return [_LOOK]
        return super().take_ready()

    def decide(self, ready: Sequence[Any]) -> list[Any]:
        """Decide groups from the strong answers, collect low-cost answers, or look at the sample. In a worker."""
        if ready[0] is _LOOK:
            return [self._looked()]
        first = [group for group, further in ready if further is None]
        kept = iter(self._kept.decided({group: self._answers(group) for group in first}))
        return [next(kept) if further is None else self._escalated(group, further) for group, further in ready]

    def record(self, ready: Sequence[Any], decided: Sequence[Any]) -> None:
        """Record the decisions."""
        self._deciding = 0
        for (group, _), made in zip(ready, decided, strict=True):
            if isinstance(made, Look):
                self._take_look(made)
            elif isinstance(made, LowCostAnswer):
                self._kept[group] = made
            elif self.table.outcomes[group] is None:
                self._settle(group, *made)

    def add_rows(self, *, idle: bool) -> bool:
        """Queue groups for the strong model. Schedule a look at the sample once nothing is in flight."""
        if self._contested:
            return super().add_rows(idle=idle)
        if idle and self._state == "asking" and not (self._ready or self._deciding):
            self._is_due = True
            self.woken.set()
        return False

    def reopen(self, kinds: set[FailureKind] | None) -> Iterable[int]:
        """Discard the decisions of the rows to retry, and return the calls that the retry sends.

        A certified threshold is kept. Rows that it sent to the strong model go there again, without asking the
        low-cost model: a new low-cost answer would not be covered by the certificate.
        """
        results, groups = self._results, self.table.retryable(kinds)
        self.table.reopen(groups)
        self.first_failure = None
        self._ready, self._contested, self._deciding, self._is_due = [], [], 0, False
        self._answered.clear()
        retried = set(results.retryable(kinds))
        sent = {call for call in retried if results.outcomes[call] is None}
        is_settled = self._state in ("proved", "unproved", "too_few")
        if not is_settled:
            self._is_complete = False
            self._state, self._look, self._asked = "asking", Look(), set(self._judge_calls)
        for group in groups:
            self.decisions.pop(group, None)
            strong = self._judge_calls.get(group, UNPLANNED)
            if strong in retried:
                sent.add(strong)
            elif strong >= 0:
                self._take(group, results.outcomes[strong])
            elif is_settled:
                self._contested.append(group)
            if not is_settled:
                sent.update(self._asked_again(group, retried))
        self.woken.set()
        return sent

    def _asked_again(self, group: int, retried: set[int]) -> list[int]:
        """Return the calls of a group's members that are sent again, and count the others that have ended."""
        members = self._rows.members
        calls = self._samples[group * members : (group + 1) * members]
        again = [call for call in calls if call in retried]
        ended = sum(call != UNPLANNED and call not in retried for call in calls)
        if ended < members:
            self._kept.forget(group)
            self._answered[group] = ended
        elif group not in self._kept:
            self._take(group, None)
        return again

    def _escalated(self, group: int, further: Outcome) -> tuple[Outcome, Decision]:
        """Return a group's outcome from the strong model. If that failed, no other answer is covered by the promise."""
        outcomes = self._answers(group)
        if further.failure is None:
            metas = tuple(meta for outcome in (*outcomes, further) for meta in outcome.metas)
            cached = all(outcome.cached for outcome in (*outcomes, further))
            whole = Outcome(further.value, None, self.table.keys[group], metas, cached, outcomes[0].entry)
            return whole, Decision("escalated", None, reply=further.last or further.key)
        if further.failure.kind in _UNSENT:
            return self._unanswered(group, further.failure)
        message = f"{self._strong}, which this row was escalated to, failed: {further.failure.message}"
        metas = tuple(meta for outcome in (*outcomes, further) for meta in outcome.metas)
        failure = replace(further.failure, message=message)
        return Outcome(None, failure, self.table.keys[group], metas, False, further.entry), Decision("failed", None)

    def _unanswered(self, group: int, failure: Failure) -> tuple[Outcome, Decision]:
        """Return the outcome of a group whose strong call was not sent: no reply is the row's answer."""
        unsent = Outcome(None, failure, self.table.keys[group], (), False)
        unsent.earlier = tuple(meta for outcome in self._answers(group) for meta in outcome.metas)
        return unsent, Decision("failed", None)

    def _settle(self, group: int, outcome: Outcome, decision: Decision) -> None:
        self.decisions[group] = decision
        self.table.record(group, outcome)
        if outcome.failure is None:
            is_strong = decision.how == "escalated"
            self._escalated_rows += self.table.weight[group] if is_strong else 0
            self._kept_rows += 0 if is_strong else self.table.weight[group]
        if outcome.failure is not None and outcome.failure.kind is not FailureKind.BUDGET:
            self._note_failure(self.table.first_row[group], outcome.failure)

    # The sample.

    def _looked(self) -> Look:
        """Look at the sample (see `look_at`). In a worker."""
        group_of_row = np.array(self.table.call_of_row, dtype=np.int64)
        rows = np.flatnonzero(group_of_row >= 0)
        groups = group_of_row[rows]
        if not self._is_complete and (cut := self._cut(self.outcomes, np.unique(groups).tolist())) is not None:
            return cut
        self._is_complete = True
        known = self._kept.confidence(len(self.table.keys))
        places = rows.tolist()
        return look_at(
            self._look,
            self._promise.guarantee,
            groups,
            known[groups],
            self._asked,
            partial(self._cut, self._strong_outcomes),
            lambda row, group: self._is_bad(places[row], group),
            (lambda row, group: not self._is_right(places[row], group)) if self._promise.labels else None,
        )

    def _cut(self, outcomes: Callable[[int], Sequence[Outcome | None]], groups: Sequence[int]) -> Look | None:
        """Return a look that ends the run if an answer is missing and will not be requested, or else None."""
        for group in groups:
            for outcome in outcomes(group):
                if outcome is None:
                    return Look(state="unfinished")
                if outcome.failure is not None and outcome.failure.kind in _UNSENT:
                    return Look(state="unfinished", unsent=outcome.failure)
        return None

    def _strong_outcomes(self, group: int) -> list[Outcome | None]:
        call = self._judge_calls.get(group, UNPLANNED)
        return [self._results.outcomes[call] if call >= 0 else self.table.outcomes[group]]

    def _is_bad(self, row: int, group: int) -> bool:
        """Return whether a sampled row would be bad if it kept its low-cost answer."""
        kept, (strong,) = self._kept[group].outcome, self._strong_outcomes(group)
        if kept.failure is not None or self._is_right(row, group):
            return False
        assert strong is not None  # the sample is complete
        # A failed strong answer is unknown, so the row is counted as bad, to be safe.
        return strong.failure is not None or self._promise.is_bad(row, self.plan.answer(kept.value), strong.value)

    def _is_right(self, row: int, group: int) -> bool:
        """Return whether labels confirm a row's low-cost answer, so that no strong answer is needed."""
        kept = self._kept[group].outcome
        return kept.failure is None and self._promise.is_right(row, self.plan.answer(kept.value))

    def _take_look(self, look: Look) -> None:
        self._look = look
        ask = list(look.ask)
        if look.state is not None:
            self._state, self._rows_asked = look.state, sum(self.table.weight)
            if look.unsent is not None:
                self._leave_open(look.unsent)
            elif look.state != "unfinished":
                ask = self._keep_certified(look.best.threshold)
        self._asked.update(ask)
        self._contested += ask
        self.woken.set()

    def _keep_certified(self, threshold: float) -> list[int]:
        """Record the low-cost answers at or above the threshold, and return the groups for the strong model.

        A strong answer from the sample is kept.
        """
        rest = []
        for group, outcome in enumerate(self.table.outcomes):
            if outcome is None and (kept := self._kept[group]).confidence >= threshold:
                self._settle(group, kept.outcome, kept.decision)
            elif outcome is None:
                rest.append(group)
        return rest

    def _leave_open(self, failure: Failure) -> None:
        """Fail the undecided groups: without a certificate, no low-cost answer may be kept."""
        for group, outcome in enumerate(self.table.outcomes):
            if outcome is None:
                self._settle(group, *self._unanswered(group, failure))

    # What is asked and shown.

    def _judge_prompt(self, group: int) -> Prompt:  # type: ignore[override]
        """Return the strong model's prompt for a group, which is that of a plain run. Callable from any thread."""
        return self._prompt(group)

    def news(self, note: str, further_spent: Spent | None, cost_usd: float | None, *, ended: bool) -> str:
        """Return the progress: the low-cost answers, the sample, the rest (see `Decider.news`)."""
        total, first = len(self.table.keys), self._first.label
        if self._state != "asking":
            words = f"{self._kept_rows:,} rows by {first}, {self._escalated_rows:,} by {self._strong}"
            if self._state == "proved":
                words += f": at most {self._promise.guarantee.allowed(self._rows_asked):,} suffer"
        elif self._asked:
            words = f"{self._strong} answers a sample of {len(self._asked):,}"
        else:
            words = f"{len(self._kept):,} of {total:,} low-cost answers; then {self._strong} answers a sample"
        return f"{words}; {note}" if note else words

    def warnings(self) -> Sequence[str]:
        """Return the warnings to show at the end: none if the promise was kept."""
        return () if self._state == "proved" or not self.table.keys else (self.figures().promise,)

    def noted(self) -> Mapping[str, Any]:
        """Return the registry's record of the promise."""
        return {"guarantee": self.figures(priced=True).written()}

    def figures(self, *, priced: bool = False) -> GuaranteeFigures:
        """Return the current promise and its figures. Callable from any thread.

        Args:
            priced: Whether to compute the costs, which reads the cost of the answers.
        """
        promise, best, rows = self._promise, self._look.best, sum(self.table.weight)
        cost, alone = self._costs() if priced else (None, None)
        return GuaranteeFigures(
            state="unfinished" if self._state == "asking" else self._state,
            share=promise.guarantee.share,
            confidence_level=promise.guarantee.confidence_level,
            low_cost=", ".join(dict.fromkeys(member.model for member in self.plan.members)),
            strong=self._strong,
            source=promise.source,
            fields=tuple(promise.names),
            outside=promise.outside,
            labels={name: labels.name for name, labels in promise.labels.items()},
            rows=rows,
            allowed=promise.guarantee.allowed(rows),
            sampled=best.sampled,
            bad=best.bad,
            threshold=float(best.threshold) if best.proved else None,
            kept=self._kept_rows,
            escalated=self._escalated_rows,
            cost_usd=cost,
            alone_usd=alone,
        )

    def _costs(self) -> tuple[float | None, float | None]:
        """Return the cost of all answers as paid, and the approximate cost of the strong model alone."""
        low = _mean(self._kept.outcomes())
        strong_calls = [self._results.outcomes[call] for call in self._judge_calls.values()]
        answered = [outcome for outcome in strong_calls if outcome is not None and outcome.metas]
        strong = _mean(answered)
        if low is None or strong is None:
            return None, None
        return low * len(self._kept) + strong * len(answered), strong * len(self.table.keys)


def _mean(outcomes: Sequence[Outcome]) -> float | None:
    """Return the mean cost of answers in US dollars, from an evenly spaced sample of many. None if unknown."""
    priced = [outcome.cost_usd for outcome in outcomes[:: len(outcomes) // _PRICED + 1]]
    known = [cost for cost in priced if cost is not None]
    return sum(known) / len(known) if known and len(known) == len(priced) else None
