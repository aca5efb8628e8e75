"""Answers that combine decided and written parts, for a run that is no longer in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pllm_notebook.ensemble import Assembly, CellFailure
from pllm_notebook.execution import RowRecord
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.frames.samples import NOT_ENDED
from pllm_notebook.schema import (
    DecisionAnswer,
    DecisionOutput,
    Dialect,
    Invalid,
    Misread,
    OutputType,
    QuestionPlan,
    read_answers,
)

__all__ = ["AssembledAnswers"]

Texts = Sequence[Sequence[bytes | None]]
"""For each ensemble member, the text of each row's reply; None without a reply."""


class AssembledAnswers:
    """Reader of rows from the replies of the ensemble members (see `ensemble.Assembly`).

    Args:
        output: The type.
        most_options: Maximum number of options of a question.
        judging: Number of members that decided. A member after them wrote the remaining fields.
        written: Dialect of the written fields.
        names: Names of the questions as sent. They differ from those in a recorded schema if the type has aliases,
            because the schema contains JSON names. () to use the type's names.
    """

    def __init__(
        self, output: OutputType, most_options: int, judging: int, written: Dialect, names: Sequence[str] = ()
    ) -> None:
        plan = QuestionPlan(output, most_options)
        if names:
            plan.name_questions(names)
        self.assembly = Assembly(plan, [DecisionOutput(plan, plan.questions)])
        self._judging = judging
        self._written = written

    @cached_property
    def _rest(self) -> Any:
        rest = self.assembly.plan.rest
        return None if rest is None else rest.fit(self._written)

    def answers(self, texts: Texts, at: int) -> dict[str, DecisionAnswer | None]:
        """Return the answers to a row's questions. Questions of a part without a reply are left out."""
        made: dict[str, DecisionAnswer | None] = {}
        for member in texts[: self._judging]:
            text = member[at]
            for question in self.assembly.plan.questions if text is not None else ():
                try:
                    made |= read_answers([question], text or b"")
                except Misread:  # the question belongs to another part
                    continue
        return made

    def value(self, texts: Texts, at: int) -> tuple[Any] | None:
        """Return a row's value in a tuple; None for a row without a value."""
        answers = self.answers(texts, at)
        text = texts[self._judging][at] if len(texts) > self._judging else None
        rest = None
        if text is not None and self._rest is not None:
            found = self._rest.parse_many([text])[0]
            rest = None if isinstance(found, Invalid) else found
        if not answers and rest is None:
            return None
        value = self.assembly.value_of(answers, rest)
        return None if isinstance(value, Invalid) else (value,)

    def cells(
        self, texts: Texts, at: int, record: RowRecord, row: int, kinds: Sequence[str]
    ) -> tuple[CellFailure, ...]:
        """Return a row's fields without a value, with the reason as far as it is known."""
        assert record.samples is not None
        answers = self.answers(texts, at)
        refused = {name for name, answer in answers.items() if answer is None}
        numbers = [int(number) for number in record.samples.failure[row]]
        failed = [kinds[number - 1] for number in numbers if number not in (0, NOT_ENDED)]
        made = []
        for field in self.assembly.plan.fields:
            if field.probabilities(answers) is None:
                is_refused = any(question.name in refused for question in field.questions)
                kind = "refusal" if is_refused or not failed else failed[0]
                made.append(CellFailure(field.choice.name, _failure(kind)))
        if len(numbers) > self._judging and numbers[self._judging] not in (0, NOT_ENDED):
            kind = kinds[numbers[self._judging] - 1]
            made += [CellFailure(".".join(path), _failure(kind)) for path in self.assembly.leaves]
        return tuple(made)


def _failure(kind: str) -> Failure:
    known: Mapping[str, FailureKind] = {str(each): each for each in FailureKind}
    message = "The message of this failure was not kept. Run the cell again to reproduce it."
    if kind == "refusal":
        message = "The model declined to answer the question; the others of the row are answered."
    return Failure(known[kind], message)
