"""`df.llm.decide`: a judge over answers that are already in columns, from any source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pllm_notebook.ensemble import DECISION_MAKER_PROMPT, VoteCount, render_judge_prompt, verdict_type
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import CallSpec, LiveRun, Outcome, WholePrompts, build_spec
from pllm_notebook.failures import Failure
from pllm_notebook.frames.rows import ColumnData, prompts_of
from pllm_notebook.options import Options, fields_of
from pllm_notebook.schema import OutputType
from pllm_notebook.templates import Template

__all__ = ["CandidateAnswers", "judge_for"]

# Suffix of the result column that names the column an answer is from.
FROM = "_from"


class CandidateAnswers(WholePrompts):
    """The candidate answers of each row, and the judge's prompt for those that differ.

    Args:
        given: The columns that hold answers.
        asked: The columns of the question.
        template: The question's prompt.
        options: The resolved options.
        instructions: Returns the instruction of each row's question. None if all have the same.
    """

    def __init__(
        self,
        given: ColumnData,
        asked: ColumnData,
        template: Template,
        options: Options,
        instructions: Callable[[range], Sequence[str | Failure | None]] | None = None,
    ) -> None:
        self.names = given.names
        self.total = given.total
        self._given = given
        system = options.system
        self._instructions = instructions or (lambda rows: [system] * len(rows))
        self._instructed = instructions is not None
        self._questions = prompts_of(asked, template, options.na)

    def prompts(self, rows: range) -> list[str | Failure | None]:
        """Return the judge's prompts; None for a row whose answers agree or that has at most one answer."""
        made: list[str | Failure | None] = []
        for row, question, system in zip(rows, self._questions(rows), self._instructions(rows), strict=True):
            tally = self.tally(row)
            if isinstance(system, Failure) or (system is None and self._instructed):
                made.append(system)
            elif isinstance(question, str) and tally is not None and not tally.unanimous:
                made.append(render_judge_prompt(question, system, tally))
            else:
                made.append(question if isinstance(question, Failure) else None)
        return made

    def tally(self, row: int) -> VoteCount | None:
        """Return the count of a row's answers, None if it has none."""
        values = [self._given.values[at][row] for at in self._there(row)]
        return VoteCount(None, values) if values else None

    def decided(self, run: LiveRun, row: int) -> tuple[Any, str | None]:
        """Return a row's answer and the column it is from, each None if there is none."""
        tally = self.tally(row)
        if tally is None:
            return None, None
        value, at = tally.values[0], 0
        if not tally.unanimous:
            outcome: Outcome | None = run.table.outcome(row)
            if outcome is None or outcome.value is None:
                return None, None
            value = outcome.value.answer
            found = tally.index(value)
            if found is None:
                return value, None
            at = found
        return value, self.names[self._there(row)[at]]

    def _there(self, row: int) -> list[int]:
        return [at for at in range(len(self.names)) if not self._given.missing[at][row]]


def judge_for(options: Options, output: OutputType | None) -> CallSpec:
    """Return the spec of the judge's question.

    Raises:
        UsageError: If the question is invalid. Nothing was sent.
    """
    for name, each in fields_of(Options).items():
        # A pack of 1 is one call per row, which is also the default.
        if "decide" not in each.takes and getattr(options, name) not in (each.default, 1):
            raise UsageError(
                f"df.llm.decide does not take {name}=: the answers are already in columns. Nothing was sent."
            )
    if output is not None and output.fields is not None:
        raise UsageError(
            f"df.llm.decide makes one column, and {output.name} has fields. Leave the type out for text, or pass one "
            f"without fields, such as Literal[…]. Nothing was sent."
        )
    model = options.judge or options.model
    own = replace(options, model=model, judge=None, system=DECISION_MAKER_PROMPT)
    return build_spec(own, verdict_type(output), instruct=False)
