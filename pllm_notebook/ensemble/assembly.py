"""Assemble an answer from its parts: the decision endpoint's decisions and the chat model's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from pllm_notebook.ensemble.decisions import CellFailure, Decision
from pllm_notebook.execution import Outcome
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.schema import PLAIN, DecisionAnswer, DecisionOutput, Invalid, OutputType, QuestionPlan, partial_value

__all__ = ["Assembly"]


class Assembly:
    """Assemble the members' answers into one (see `EnsembleSpec.assembly`).

    A failed part or a refused question fails only its own fields. A row fails if no field is left.

    Args:
        plan: The fields of the type that are asked as questions.
        parts: The questions of each deciding member, in order. The member after them writes the rest.

    Attributes:
        plan: As given.
        leaves: JSON paths, from the root, of the fields that are written rather than decided.
    """

    def __init__(self, plan: QuestionPlan, parts: Sequence[DecisionOutput]) -> None:
        self.plan = plan
        self._parts = parts
        self._fitted = plan.output.fit(PLAIN)
        self.leaves = _leaves(plan)

    def __call__(self, outcomes: Sequence[Outcome]) -> tuple[Outcome, Decision]:
        """Return a row's outcome and how it was decided."""
        answers: dict[str, DecisionAnswer | None] = {}
        failures: dict[str, Failure] = {}
        for part, outcome in zip(self._parts, outcomes, strict=False):
            if outcome.failure is None:
                answers |= outcome.value
                refused = [name for name, answer in outcome.value.items() if answer is None]
                failures |= {name: _refusal(name, outcome) for name in refused}
            else:
                failures |= {question.name: outcome.failure for question in part.questions}
        written = outcomes[len(self._parts)] if len(outcomes) > len(self._parts) else None
        cells = [*self._undecided(answers, failures), *self._unwritten(written)]
        if len(cells) == len(self.leaves) + sum(bool(field.questions) for field in self.plan.fields):
            first = next((one.failure for _, one in cells if one.failure.kind.retried), cells[0][1].failure)
            return _outcome(None, first, outcomes), Decision("failed", None)
        rest = None if written is None or written.failure is not None else written.value
        found = self.value_of(answers, rest)
        if isinstance(found, Invalid):
            raw = to_json(self.plan.assembled(answers, rest or {})).decode("utf-8", "replace")
            failure = Failure(found.kind, found.message, 200, raw, attempts=1)
            return _outcome(None, failure, outcomes), Decision("failed", None)
        return _outcome(found, None, outcomes), Decision("assembled", None, cells=tuple(cell for _, cell in cells))

    def _undecided(
        self, answers: Mapping[str, DecisionAnswer | None], failures: Mapping[str, Failure]
    ) -> list[tuple[tuple[str, ...], CellFailure]]:
        made = []
        for field in self.plan.fields:
            if field.probabilities(answers) is None:
                failure = next(failures[one.name] for one in field.questions if one.name in failures)
                made.append((field.choice.path, CellFailure(field.choice.name, failure)))
        return made

    def _unwritten(self, written: Outcome | None) -> list[tuple[tuple[str, ...], CellFailure]]:
        if written is None or written.failure is None:
            return []
        return [(path, CellFailure(".".join(path), written.failure)) for path in self.leaves]

    def written(self) -> list[Any]:
        """Return the registry's record: most options of a question, number of deciding members, question names."""
        return [self.plan.most_options, len(self._parts), [question.name for question in self.plan.questions]]

    def value_of(self, answers: Mapping[str, DecisionAnswer | None], rest: Any) -> Any:
        """Return the complete value, passed through the type's validators, or an `Invalid`.

        Args:
            answers: Keyed by question name.
            rest: The chat model's part. None if it wrote nothing.
        """
        missing = {choice.path for choice in self.plan.refused(answers)}
        missing |= set(self.leaves) if rest is None else set()
        value = self.plan.assembled(answers, rest or {})
        if not missing:
            content = to_json({"value": value} if self._fitted.wrapped else value)
            return self._fitted.parse_many([content])[0]
        try:
            return partial_value(self.plan.output, value, frozenset(missing))
        except Exception as error:  # the available fields do not fit, or a validator of the caller raised
            return Invalid(FailureKind.SCHEMA, str(error)[:300], (((), type(error).__name__),))


def _leaves(plan: QuestionPlan) -> list[tuple[str, ...]]:
    """Return the paths of the fields that are written rather than decided."""
    rest: OutputType | None = plan.rest
    if rest is None:
        return []
    decided = {field.choice.path for field in plan.fields}
    made: list[tuple[str, ...]] = []

    def walk(schema: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for name, inner in schema.get("properties", {}).items():
            below = (*path, name)
            if any(one[: len(below)] == below for one in decided):
                walk(inner, below)
            else:
                made.append(below)

    walk(rest.json_schema, ())
    return made


def _refusal(name: str, outcome: Outcome) -> Failure:
    paid = outcome.replies()
    return Failure(
        FailureKind.REFUSAL,
        f"The model declined to answer the question {name!r}; the others of the row are answered.",
        status=200,
        attempts=1,
        request_id=paid[-1]["request_id"] if paid else "",
        cost_usd=0.0,
    )


def _outcome(value: Any, failure: Failure | None, outcomes: Sequence[Outcome]) -> Outcome:
    metas = tuple(meta for outcome in outcomes for meta in outcome.metas)
    failure = None if failure is None else replace(failure)
    return Outcome(value, failure, outcomes[0].key, metas, all(one.cached for one in outcomes), outcomes[0].entry)
