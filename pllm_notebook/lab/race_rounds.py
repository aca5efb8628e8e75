"""The rounds of a race: the same questions for several arms at once, under one ceiling, in one display."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pllm_notebook.exceptions import ProviderRejectedError, UsageError
from pllm_notebook.execution import LiveRun, Steps
from pllm_notebook.frames.libraries import accessor_of
from pllm_notebook.frames.rows import usage_rows
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.labelled_questions import LabelledQuestions, field_columns
from pllm_notebook.lab.race_arms import Arm
from pllm_notebook.lab.shared_runs import Asked, SharedRuns, answers_in

__all__ = ["ArmAnswers", "RaceRounds"]

Numbers = np.ndarray[Any, np.dtype[Any]]

_SAMPLE = 1_000
"""Number of rows used to project the duration of the full run."""
_USUAL_CONCURRENCY = 64


class ArmAnswers:
    """The answers of one arm.

    Args:
        arm: The arm.
        sent: The columns that it sends.
        questions: The labelled rows.

    Attributes:
        arm: As given.
        sent: As given.
        correct: For each question, the number of labelled rows that it got right, shape (questions,).
        asked: Whether all lines of a question were asked and have ended, shape (questions,).
        skipped: Whether a line has a missing value, so that nothing is sent, or it, or a near-duplicate, was shown to
            the model as an example; shape (questions,).
        examples: Number of labelled rows skipped as examples.
        failures: Failure kinds, counted by labelled row.
        cost_usd: The cost of each answered call when it was paid for. Other arms may share the call.
        latency_s: The latency of each answered call.
        refused: Why the provider refuses all of its calls. "" if it does not.
        run: The last run. None before the first.
    """

    def __init__(self, arm: Arm, sent: tuple[str, ...], questions: LabelledQuestions) -> None:
        columns = field_columns(arm.response_format, arm.options)
        if questions.field not in columns:
            raise UsageError(f"The answers of {arm.name!r} have no field {questions.field!r}. Nothing was sent.")
        self.arm, self.sent = arm, sent
        self._column = columns[questions.field].name
        self.correct = np.zeros(len(questions))
        self.asked = np.zeros(len(questions), dtype=bool)
        self.skipped = np.zeros(len(questions), dtype=bool)
        self.examples = 0
        self.failures: Counter[str] = Counter()
        self.cost_usd: list[float] = []
        self.latency_s: list[float] = []
        self.refused = ""
        self.run: LiveRun | None = None

    def asked_about(self, frame: Any) -> Asked:
        """Return the question for a frame of lines."""
        return Asked(frame, self.arm.response_format, self.arm.prompt, self.arm.options)

    def take(self, run: LiveRun, lines: range, questions: LabelledQuestions) -> None:
        """Take the answers of a run that has ended."""
        self.run = run
        if isinstance(run.execution.error, ProviderRejectedError):
            self.refused = str(run.execution.error)
            return
        values = answers_in(run, self._column)
        ended = np.ones(len(questions), dtype=bool)
        shown = getattr(run.rows, "taken", None)
        for at, line in enumerate(lines):
            question, status = int(questions.question[line]), run.table.status(at)
            if shown is not None and shown[at]:
                self.skipped[question] = True
                self.examples += len(questions.truths[line])
            elif status in ("ok", "cached"):
                self.correct[question] += questions.right(line, values[at])
            elif status == "failed":
                failure = run.table.failure(at)
                self.failures["failed" if failure is None else str(failure.kind)] += len(questions.truths[line])
            elif status == "skipped":
                self.skipped[question] = True
            else:
                ended[question] = False
        here = questions.question[lines.start : lines.stop]
        self.asked[here] = ended[here]
        calls = {call: at for at, call in enumerate(run.table.call_of_row) if call >= 0}
        for usage in usage_rows(run, calls.values()):
            self.cost_usd += [] if usage["cost_usd"] is None else [usage["cost_usd"]]
            self.latency_s += [] if usage["latency_s"] is None else [usage["latency_s"]]

    def full_cost_usd(self, calls: int) -> float | None:
        """Return the cost of *calls* calls at the mean cost so far. None if unknown."""
        return calls * sum(self.cost_usd) / len(self.cost_usd) if self.cost_usd else None

    def full_time_s(self, calls: int, table: Table) -> float | None:
        """Return the duration of *calls* calls at the limits and latency seen so far. None if unknown.

        Args:
            calls: Number of calls of the full run.
            table: The rows of the full run.
        """
        if not self.latency_s:
            return None
        sample = table.slice(range(min(table.total, _SAMPLE))).data
        given = {**self.arm.options, "replace": True}
        known = accessor_of(sample).estimate(self.arm.response_format, self.arm.prompt, **given)
        if known.calls and known.time_s is not None:
            return float(known.time_s * max(1.0, calls / known.calls))
        return float(np.mean(self.latency_s) * max(1.0, calls / _USUAL_CONCURRENCY))


class RaceRounds:
    """Ask arms the same questions and keep their answers.

    Args:
        arms: The arms.
        sent: The columns that each sends.
        questions: The labelled rows.
        runs: The shared budget and display.

    Attributes:
        answers: The answers of each arm.
    """

    def __init__(
        self, arms: Sequence[Arm], sent: Sequence[tuple[str, ...]], questions: LabelledQuestions, runs: SharedRuns
    ) -> None:
        self.answers = [ArmAnswers(arm, own, questions) for arm, own in zip(arms, sent, strict=True)]
        self._questions = questions
        self._runs = runs

    def affordable(self, arms: Sequence[int], questions: range) -> range:
        """Return the leading questions that the rest of the ceiling pays for, by the estimate.

        Raises:
            UsageError: Under a ceiling, for an arm whose price is unknown. Nothing was sent for these questions.
        """
        budget = self._runs.budget
        if budget.ceiling_usd is None:
            return questions
        frame = self._questions.frame(self._questions.lines(questions))
        needed = 0.0
        for at in arms:
            arm = self.answers[at].arm
            cost = accessor_of(frame).estimate(arm.response_format, arm.prompt, **arm.options).cost_usd
            if cost is None:
                raise UsageError(
                    f"max_cost_usd={budget.ceiling_usd:g} cannot be enforced: the price of {arm.name!r} is unknown. "
                    f"Remove the ceiling or this model. Nothing was sent to it."
                )
            needed += cost
        left = max(0.0, budget.ceiling_usd - budget.spent_usd)
        count = len(questions) if needed <= left else int(len(questions) * left / needed)
        return range(questions.start, questions.start + count)

    def ask(self, arms: Sequence[int], questions: range) -> Steps[None]:
        """Ask some arms some questions, all at once, and wait (see `SharedRuns.ask`)."""
        lines = self._questions.lines(questions)
        frame = self._questions.frame(lines)
        runs = yield from self._runs.ask([self.answers[at].asked_about(frame) for at in arms])
        for at, run in zip(arms, runs, strict=True):
            self.answers[at].take(run, lines, self._questions)
