"""`df.llm.race`: run several arms on the labelled rows, in rounds, and report which is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import Steps, options_for
from pllm_notebook.formatting import counted
from pllm_notebook.frames.accessor import asked_columns
from pllm_notebook.frames.libraries import accessor_of
from pllm_notebook.frames.response_format import format_of
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.comparisons_made import note_comparison
from pllm_notebook.lab.labelled_questions import LabelledQuestions, field_columns, labelled_questions
from pllm_notebook.lab.paired_tests import share_interval
from pllm_notebook.lab.race import Race, RacedArm
from pllm_notebook.lab.race_arms import Arm, arms_of
from pllm_notebook.lab.race_rounds import ArmAnswers, RaceRounds
from pllm_notebook.lab.shared_runs import SharedRuns
from pllm_notebook.statistics import RaceRule, RaceStanding, race_looks

__all__ = ["race_table"]

Numbers = np.ndarray[Any, np.dtype[Any]]

_LEAST_QUESTIONS = 20
"""If the ceiling does not pay for this many, nothing is sent: such a race would prove nothing."""


def race_table(
    table: Table,
    response_format: Any,
    prompts: Any,
    models: Any,
    efforts: Any,
    against: Any,
    field: str | None,
    rule: RaceRule,
    options: Mapping[str, Any],
) -> Steps[Race]:
    """Run a race on the labelled rows of a table (see `df.llm.race`)."""
    if rule not in get_args(RaceRule):
        raise UsageError(f"rule is 'halving' or 'proof', not {rule!r}. Nothing was sent.")
    given = {**options}
    kind = format_of(response_format, given, "race")
    ceiling, shown = options_for({**given}).max_cost_usd, options_for({**given}).progress
    arms = [_without_labels(arm, table, against) for arm in arms_of(kind, prompts, models, efforts, given)]
    sent: list[tuple[str, ...]] = []

    def columns_sent() -> Sequence[tuple[str, ...]]:
        sent.extend(_sent(arms, table))
        return sent

    columns = field_columns(arms[0].response_format, arms[0].options)
    questions = labelled_questions(table, columns, against, field, columns_sent)
    runs = SharedRuns(ceiling, bool(shown), "race")
    rounds = RaceRounds(arms, sent, questions, runs)
    looks = race_looks(len(arms), len(questions), rule)
    compared = _Comparisons(rounds.answers, questions, RaceStanding(len(arms), len(looks), rule))
    asked, cut = 0, False
    for look in looks:
        wanted = range(asked, look)
        going = rounds.affordable(compared.active, wanted)
        cut = len(going) < len(wanted)
        if not asked and len(going) < min(_LEAST_QUESTIONS, len(wanted)):
            raise UsageError(
                f"max_cost_usd={ceiling:g} pays for about {counted(len(going), 'row')} of each of the {len(arms)} "
                f"arms, and the first round takes {len(wanted)}. Raise it, or race fewer arms. Nothing was sent."
            )
        if going:
            yield from rounds.ask(compared.active, going)
            asked = going.stop
            cut = compared.look(asked, is_last=cut or look == looks[-1]) or cut
        if cut or len(compared.active) < 2:
            break
    runs.close()
    left_out = ""
    if cut:
        left_out = (
            f"max_cost_usd={ceiling:g} was reached: {compared.compared:,} of {len(questions):,} labelled "
            f"questions were compared. The same call with a higher ceiling continues from there."
        )
    last = [one.run for one in rounds.answers if one.run is not None and not one.refused]
    note_comparison("race", last, field=questions.field, labels=questions.labels)
    return compared.race(rule, runs.cost_usd, left_out)


def _without_labels(arm: Arm, table: Table, against: Any) -> Arm:
    """Return the arm without the label column: without a prompt, all columns would be sent as data."""
    if arm.prompt is not None or "columns" in arm.options or not isinstance(against, str):
        return arm
    columns = [name for name in table.names if name != against]
    return Arm(arm.name, arm.response_format, None, arm.prompt_name, {**arm.options, "columns": columns})


def _sent(arms: Sequence[Arm], table: Table) -> list[tuple[str, ...]]:
    """Check every arm and return the columns that each sends."""
    first = accessor_of(table.slice(range(min(table.total, 1))).data, "race")
    made = []
    for arm in arms:
        try:
            made.append(asked_columns(first, arm.response_format, arm.prompt, {**arm.options, "replace": True}))
        except UsageError as error:
            error.add_note(f"In the arm {arm.name!r}.")
            raise
    return made


class _Comparisons:
    """Compare the arms after each round.

    Args:
        answers: The answers of each arm.
        questions: The labelled rows.
        standing: The results of the comparisons.

    Attributes:
        compared: Number of questions in the last comparison.
    """

    def __init__(self, answers: Sequence[ArmAnswers], questions: LabelledQuestions, standing: RaceStanding) -> None:
        self.compared = 0
        self._answers, self._questions, self._standing = answers, questions, standing
        self._sizes = questions.sizes()
        self._left: dict[int, str] = {}
        self._accuracy: dict[int, float] = {}

    @property
    def active(self) -> Sequence[int]:
        """The arms that are still in the race."""
        return self._standing.active

    def look(self, asked: int, *, is_last: bool) -> bool:
        """Compare the active arms and drop the losers. Return whether the budget was too low for a question.

        Args:
            asked: Number of questions asked so far, from the first.
            is_last: Whether this was the last round.

        Raises:
            PllmError: If the providers refuse all of them.
        """
        standing, answers = self._standing, self._answers
        self._left |= {arm: "refused" for arm in standing.active if answers[arm].refused}
        standing.active = [arm for arm in standing.active if arm not in self._left]
        if not standing.active:
            reasons = " ".join(f"{one.arm.name}: {one.refused}" for one in answers if one.refused)
            raise PllmError(f"The provider refuses every arm that is left in the race. {reasons}")
        common = np.arange(len(self._questions)) < asked
        for arm in standing.active:
            common &= answers[arm].asked
        is_short = int(common.sum()) < asked
        common &= ~self._skipped()
        if not common.any():
            if is_short:
                return True
            raise PllmError(
                "No labelled row can be compared: each has a missing value, or an arm was shown it, or nearly, as an "
                "example. Keep labelled rows out of examples=: pllm.example_roles splits them."
            )
        right = np.array([answers[arm].correct[common] for arm in standing.active])
        standing.compare(right, self._sizes[common])
        self.compared = int(common.sum())
        shares = (right.sum(axis=1) / self._sizes[common].sum()).tolist()
        self._accuracy = dict(zip(standing.active, shares, strict=True))
        if not is_last and not is_short:
            prices = [answers[arm].full_cost_usd(1) or 0.0 for arm in standing.active]
            every = range(len(answers))
            for arm in standing.drop(shares, prices):
                why = "proven worse" if standing.is_worse(arm, every) else "out"
                self._left[arm] = f"{why} after {self.compared:,}"
        return is_short

    def race(self, rule: RaceRule, cost_usd: float | None, left_out: str) -> Race:
        """Return the result."""
        # One call for each row that is distinct in the columns that an arm sends: what it would need alone.
        calls = {sent: self._questions.distinct(sent) for sent in {one.sent for one in self._answers}}
        arms = [self._raced(at, one, calls[one.sent]) for at, one in enumerate(self._answers)]
        return Race(
            arms=arms,
            leader=min(self.active, key=lambda at: (-self._accuracy.get(at, 0.0), arms[at].cost_usd or 0.0, at)),
            standing=self._standing,
            questions=self._questions,
            rule=rule,
            examples=max(one.examples for one in self._answers),
            cost_usd=cost_usd,
            left_out=left_out,
            simulated=any(one.run is not None and one.run.execution.simulated for one in self._answers),
        )

    def _skipped(self) -> Numbers:
        """Return the questions that are skipped for all arms because one arm cannot be measured by them."""
        return np.asarray(np.logical_or.reduce([one.skipped for one in self._answers]))

    def _raced(self, at: int, one: ArmAnswers, calls: int) -> RacedArm:
        there = one.asked & ~self._skipped()
        sizes = self._sizes[there]
        accuracy = float(one.correct[there].sum() / sizes.sum()) if len(sizes) else float("nan")
        worth = float(sizes.sum() ** 2 / np.sum(sizes**2)) if len(sizes) else 0.0
        low, high = share_interval(accuracy * worth, worth)
        return RacedArm(
            arm=one.arm,
            accuracy=accuracy,
            low=low,
            high=high,
            questions=int(there.sum()),
            failed=sum(one.failures.values()),
            failures=dict(one.failures),
            cost_usd=one.full_cost_usd(calls),
            time_s=one.full_time_s(calls, self._questions.table),
            left=self._left.get(at, ""),
            refused=one.refused,
        )
