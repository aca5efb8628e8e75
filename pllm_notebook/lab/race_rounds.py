"""The rounds of a race: the same questions to several arms at once, under one ceiling, in one display."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pllm_notebook.exceptions import BudgetError, ProviderRejectedError, RunInterrupted, UsageError
from pllm_notebook.execution import Run, RunBudget, forget
from pllm_notebook.frames.accessor import submit_piece
from pllm_notebook.frames.labels import plain_values
from pllm_notebook.frames.libraries import accessor_of, table_of
from pllm_notebook.frames.rows import usage_rows
from pllm_notebook.lab.labelled_questions import LabelledQuestions, field_columns
from pllm_notebook.lab.race_arms import Arm
from pllm_notebook.streams import WindowProgress

__all__ = ["ArmAnswers", "RaceRounds"]

Numbers = np.ndarray[Any, np.dtype[Any]]

_TICK_S = 0.2
_SAMPLE = 1_000
"""Rows by which the time of the full run is projected."""
_USUAL_CONCURRENCY = 64


class ArmAnswers:
    """What one arm has answered.

    Args:
        arm: The arm.
        questions: The labelled rows.

    Attributes:
        correct: Of each question, the labelled rows that it got right, shape (questions,).
        asked: Whether it was asked about all lines of a question, and each has ended, shape (questions,).
        skipped: Whether a line has a missing value, so that nothing is sent, shape (questions,).
        failures: Kinds of failure, counted by labelled row.
        cost_usd: Of each line that was answered, when it was paid for.
        latency_s: Of each.
        refused: Why the provider refuses all of its calls, "" for nothing.
    """

    def __init__(self, arm: Arm, questions: LabelledQuestions) -> None:
        columns = field_columns(arm.response_format, arm.options)
        if questions.field not in columns:
            raise UsageError(f"The answers of {arm.name!r} have no field {questions.field!r}. Nothing was sent.")
        self.arm = arm
        self._column = columns[questions.field].name
        self.correct = np.zeros(len(questions))
        self.asked = np.zeros(len(questions), dtype=bool)
        self.skipped = np.zeros(len(questions), dtype=bool)
        self.failures: Counter[str] = Counter()
        self.cost_usd: list[float] = []
        self.latency_s: list[float] = []
        self.refused = ""

    def submit(self, frame: Any, budget: RunBudget, ceiling: Mapping[str, Any]) -> Run:
        """Start asking about a frame of lines."""
        arm = self.arm
        given = {**arm.options, **ceiling, "progress": False}
        return submit_piece(accessor_of(frame, "race"), arm.response_format, arm.prompt, given, budget)

    def take(self, run: Run, lines: range, questions: LabelledQuestions) -> None:
        """Note the answers of a run that has ended."""
        made = table_of(run.to_frame())
        assert made is not None
        values = plain_values(made.column_data([self._column]).values[0])
        ended = np.ones(len(questions), dtype=bool)
        for at, line in enumerate(lines):
            question, status = int(questions.question[line]), run.table.status(at)
            if status in ("ok", "cached"):
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
        for usage in usage_rows(run, range(len(lines))):
            self.cost_usd += [] if usage["cost_usd"] is None else [usage["cost_usd"]]
            self.latency_s += [] if usage["latency_s"] is None else [usage["latency_s"]]

    def full_cost_usd(self, rows: int) -> float | None:
        """Return what so many rows cost at what these have cost, None for unknown."""
        return rows * sum(self.cost_usd) / len(self.cost_usd) if self.cost_usd else None

    def full_time_s(self, questions: LabelledQuestions) -> float | None:
        """Return how long the full run takes at the limits and latency seen so far, None for unknown."""
        if not self.latency_s:
            return None
        rows, table = questions.distinct, questions.table
        sample = table.slice(range(min(table.total, _SAMPLE))).data
        given = {**self.arm.options, "replace": True}
        known = accessor_of(sample).estimate(self.arm.response_format, self.arm.prompt, **given)
        if known.calls and known.time_s is not None:
            return float(known.time_s * max(1.0, rows / known.calls))
        return float(np.mean(self.latency_s) * max(1.0, rows / _USUAL_CONCURRENCY))


class RaceRounds:
    """Asks arms about the same questions, and keeps what they answer.

    Args:
        arms: The arms.
        questions: The labelled rows.
        max_cost_usd: The ceiling of all arms and rounds together, None for none.
        progress: The display of all of them.

    Attributes:
        answers: Of each arm.
        cost_usd: Paid in this process, None for an unknown price.
    """

    def __init__(
        self, arms: Sequence[Arm], questions: LabelledQuestions, max_cost_usd: float | None, progress: WindowProgress
    ) -> None:
        self.answers = [ArmAnswers(arm, questions) for arm in arms]
        self.cost_usd: float | None = 0.0
        self._questions = questions
        self._ceiling = {} if max_cost_usd is None else {"max_cost_usd": max_cost_usd}
        self._budget = RunBudget(max_cost_usd)
        self._progress = progress
        self._going: list[Run] = []
        self._is_stopped = False

    def affordable(self, arms: Sequence[int], questions: range) -> range:
        """Return the first of some questions, as many as the rest of the ceiling pays for by the estimate.

        Raises:
            UsageError: Under a ceiling, for an arm whose price is unknown. Nothing was sent for these questions.
        """
        ceiling = self._budget.ceiling_usd
        if ceiling is None:
            return questions
        frame = self._questions.frame(self._questions.lines(questions))
        needed = 0.0
        for at in arms:
            arm = self.answers[at].arm
            cost = accessor_of(frame).estimate(arm.response_format, arm.prompt, **arm.options).cost_usd
            if cost is None:
                raise UsageError(
                    f"max_cost_usd={ceiling:g} cannot be enforced: the price of {arm.name!r} is unknown. Leave the "
                    f"ceiling or this model out. Nothing was sent to it."
                )
            needed += cost
        left = max(0.0, ceiling - self._budget.spent_usd)
        count = len(questions) if needed <= left else int(len(questions) * left / needed)
        return range(questions.start, questions.start + count)

    def ask(self, arms: Sequence[int], questions: range) -> None:
        """Ask some arms about some questions, all at once, and wait.

        Raises:
            KeyboardInterrupt: After an interrupt; what is answered is kept.
            RunInterrupted: When the display's button stopped it.
            PllmError: What ended a run, but for a provider that refuses an arm's calls.
        """
        lines = self._questions.lines(questions)
        frame = self._questions.frame(lines)
        runs: dict[int, Run] = {}
        try:
            for at in arms:
                runs[at] = run = self.answers[at].submit(frame, self._budget, self._ceiling)
                self._going.append(run)
                self._progress.open(self, run)
            while going := [run for run in self._going if not run.done()]:
                going[0].wait(_TICK_S)
                self._progress.update(self._going)
                if any(_is_over(run) for run in self._going):  # the others would be paid for nothing
                    self.stop()
            self._end(runs, lines)
        except BaseException:
            self.stop()
            self._progress.close(self._going, "cancelled")
            raise

    def close(self) -> None:
        """Show the end."""
        self._progress.close([], "done")

    def stop(self) -> None:
        """Cancel what is going. From any thread."""
        self._is_stopped = True
        for run in list(self._going):
            run.cancel()

    def _end(self, runs: Mapping[int, Run], lines: range) -> None:
        error: BaseException | None = None
        for at, run in runs.items():
            self._going.remove(run)
            self._progress.add(run.progress())
            forget(run)
            self.cost_usd = None if self.cost_usd is None or run.cost is None else self.cost_usd + run.cost
            ended_by = run.execution.error
            if isinstance(ended_by, ProviderRejectedError):
                self.answers[at].refused = str(ended_by)
            elif _is_over(run):
                error = error or ended_by
            else:
                self.answers[at].take(run, lines, self._questions)
        if error is not None:
            raise error
        if self._is_stopped:
            total = len(runs) * len(lines)
            kept = sum(run.execution.kept for run in runs.values())
            raise RunInterrupted("The race was stopped.", kept=kept, total=total)


def _is_over(run: Run) -> bool:
    """Return whether a run was stopped, or has ended by what ends the race too, such as a missing key."""
    error = run.execution.error
    return run.state == "cancelled" or not (error is None or isinstance(error, BudgetError | ProviderRejectedError))
