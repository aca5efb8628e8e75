"""Try prompts on labelled rows, within one ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pllm_notebook.cell_text import as_text
from pllm_notebook.exceptions import ProviderRejectedError, UsageError
from pllm_notebook.execution import LiveRun, Steps
from pllm_notebook.frames.accessor import asked_columns
from pllm_notebook.frames.libraries import accessor_of
from pllm_notebook.lab.labelled_questions import LabelledQuestions
from pllm_notebook.lab.shared_runs import Asked, SharedRuns, answers_in

__all__ = ["PromptTrials", "TaskQuestion", "TrialAnswer"]

Part = Literal["prompt", "system"]


@dataclass(frozen=True, slots=True)
class TaskQuestion:
    """The question whose prompt is improved.

    Attributes:
        response_format: As for `parse`.
        prompt: As for `parse`.
        options: Options of `parse`.
        column: Name of the result column that the labels are for.
        part: The part to rewrite: the prompt, or the instruction (`system`) if there is no prompt.
    """

    response_format: Any
    prompt: str | None
    options: Mapping[str, Any]
    column: str
    part: Part

    @property
    def text(self) -> str:
        """The text that is rewritten."""
        return (self.prompt if self.part == "prompt" else self.options.get("system")) or ""

    def asked(self, frame: Any, text: str) -> Asked:
        """Return the question with another text, for a frame."""
        if self.part == "prompt":
            return Asked(frame, self.response_format, text, self.options)
        return Asked(frame, self.response_format, None, {**self.options, "system": text} if text else self.options)


@dataclass(frozen=True, slots=True)
class TrialAnswer:
    """The answer of a prompt for one line.

    Attributes:
        value: The field's value. Also None without an answer.
        failure: Why there is no answer. "" if there is one.
        is_sent: Whether it was sent. False if the budget was exhausted.
    """

    value: Any
    failure: str = ""
    is_sent: bool = True


class PromptTrials:
    """Trials of texts on lines of labelled rows.

    Args:
        task: The question.
        questions: The labelled rows.
        runs: The budget and the display.

    Attributes:
        is_over: Whether the ceiling has left a line without an answer.
    """

    def __init__(self, task: TaskQuestion, questions: LabelledQuestions, runs: SharedRuns) -> None:
        self.is_over = False
        self.questions = questions
        self._task, self._runs = task, runs

    def ask(self, text: str, lines: Sequence[int]) -> Steps[list[TrialAnswer]]:
        """Return a text's answers. A text that cannot be used fails on every line, and nothing is sent for it.

        Raises:
            ProviderRejectedError: If the key, model or quota was refused.
        """
        if problem := self.problem(text):
            return [TrialAnswer(None, problem)] * len(lines)
        answers, _ = yield from self.ask_all([text], lines)
        return answers[0]

    def ask_all(
        self, texts: Sequence[str], lines: Sequence[int]
    ) -> Steps[tuple[list[list[TrialAnswer]], list[LiveRun]]]:
        """Return the answers and the runs of texts that can be used. All run concurrently."""
        frame = self.questions.frame(lines)
        runs = yield from self._runs.ask([self._task.asked(frame, text) for text in texts])
        return [self._answers(run, len(lines)) for run in runs], runs

    def problem(self, text: str) -> str:
        """Return why a text cannot be used, or "" if it can."""
        asked = self._task.asked(self.questions.frame([0]), text)
        given = {**asked.options, "replace": True}
        try:
            asked_columns(accessor_of(asked.frame), asked.response_format, asked.prompt, given)
        except UsageError as error:
            return f"The prompt cannot be used: {error}"
        return ""

    def score(self, line: int, answer: TrialAnswer) -> float:
        """Return the share of a line's rows whose label equals the answer."""
        if answer.failure or not answer.is_sent:
            return 0.0
        return self.questions.right(line, answer.value) / len(self.questions.truths[line])

    def cells(self, line: int) -> dict[str, str]:
        """Return the sent cells of a line, as text."""
        data = self.questions.table.column_data(self.questions.asked)
        row = int(self.questions.row[line])
        return {
            name: "" if missing[row] else as_text(values[row])
            for name, values, missing in zip(data.names, data.values, data.missing, strict=True)
        }

    def cost_usd(self, text: str, lines: Sequence[int]) -> float | None:
        """Estimate the cost of running a text. Cached answers are free. None for an unknown price. Sends nothing."""
        asked = self._task.asked(self.questions.frame(lines), text)
        cost: float | None = (
            accessor_of(asked.frame).estimate(asked.response_format, asked.prompt, **asked.options).cost_usd
        )
        return cost

    def _answers(self, run: LiveRun, count: int) -> list[TrialAnswer]:
        if isinstance(run.execution.error, ProviderRejectedError):
            raise run.execution.error
        values = answers_in(run, self._task.column)
        made = []
        for at in range(count):
            status, failure = run.table.status(at), run.table.failure(at)
            if status in ("ok", "cached"):
                made.append(TrialAnswer(values[at]))
            elif status in ("failed", "skipped"):
                made.append(TrialAnswer(None, status if failure is None else f"{failure.kind}: {failure.message}"))
            else:
                self.is_over = True
                made.append(TrialAnswer(None, is_sent=False))
        return made
