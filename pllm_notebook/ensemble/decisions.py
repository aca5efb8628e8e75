"""Decide one outcome from several samples. Runs in a worker thread, since types and callables are the user's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pllm_notebook.ensemble.judge_prompt import scores_of, shown_order
from pllm_notebook.ensemble.promise import Promise
from pllm_notebook.ensemble.reasoning import Reasoned
from pllm_notebook.ensemble.votes import Vote, VoteCount, identity
from pllm_notebook.execution import CallSpec, Outcome, user_threads
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.schema import OutputType
from pllm_notebook.tools import Called

__all__ = ["CellFailure", "Decision", "EnsembleSpec", "How", "Member", "decide"]

How = Literal["only", "agreed", "vote", "judge", "escalated", "function", "fallback", "failed", "assembled"]


Assembler = Callable[[Sequence[Outcome]], "tuple[Outcome, Decision]"]


@dataclass(frozen=True, slots=True)
class Member:
    """One of the calls made for every row.

    Attributes:
        spec: The spec of this member's call.
        model: The model's name as the user wrote it.
        sample: Index among the samples of this model; 0 is the plain call.
    """

    spec: CallSpec
    model: str
    sample: int


@dataclass(frozen=True, slots=True)
class EnsembleSpec:
    """The members of an ensemble, and how one answer is chosen.

    Attributes:
        members: In order. The earlier one wins a tie.
        decide: "vote", "judge", "escalate", or a function from the answers to one answer.
        vote: The rules of a majority vote, which is also the fallback if the judge fails.
        further: The judge's or the strong model's spec, used if the answers differ. None for neither.
        output: The caller's type, None for plain text.
        reasoned: The members' own type, if they write their reasoning before the answer. Otherwise None.
        assembly: Assembles one answer if each member has only a part of it. None if each member has all of it.
        judging: How many of the members, counted from the first, judge the row's values separately from the task.
        tolerant: Whether a member or judge whose key, model or quota is refused fails alone instead of ending the
            run. Only for runs of a few rows: all of them must be planned when the run ends.
        promise: The guarantee of a cascade. None for none.
    """

    members: tuple[Member, ...]
    decide: Literal["vote", "judge", "escalate"] | Callable[[list[Any]], Any]
    vote: Vote
    further: CallSpec | None
    output: OutputType | None
    reasoned: Reasoned | None = None
    assembly: Assembler | None = None
    judging: int = 0
    tolerant: bool = False
    promise: Promise | None = None

    def answer(self, value: Any) -> Any:
        """Return a member's answer in the caller's type, or its tool calls if it called tools instead."""
        if isinstance(value, Called):
            return value if value.calls else value.text
        return value if self.reasoned is None else self.reasoned.answer(value)

    def reasonings(self, values: Sequence[Any]) -> list[str | None]:
        """Return the reasoning that each member wrote before its answer, None for none."""
        return [None if self.reasoned is None else self.reasoned.reasoning(value) for value in values]


@dataclass(frozen=True, slots=True)
class CellFailure:
    """A field without a value, in a row that has values in other fields.

    Attributes:
        field: The field's name; `outer.inner` inside a nested model.
        failure: The reason.
    """

    field: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Decision:
    """How the answers to one call were decided.

    Attributes:
        how: "only" one answer arrived; all "agreed"; by "vote", "judge" or "function"; "escalated" to the strong
            model; a "fallback" to the majority, because the judge or the strong model failed; "assembled" from parts;
            all "failed".
        chosen: Index of the member whose answer was chosen. None if it is not a member's (synthesised, or failed).
        agreement: For each field (or the single value), the share of answers with its most common value. () without
            answers.
        whole: Share of answers equal to the most common whole answer. 0 without answers.
        scores: The judge's mean score of each member that it scored, by index.
        judge_error: The error of the judge or the strong model. "" for none.
        reply: Key of the judge's or the strong model's reply. "" if it did not decide.
        cells: The fields of an assembled answer that have no value, with the reason.
    """

    how: How
    chosen: int | None
    agreement: tuple[float, ...] = ()
    whole: float = 0.0
    scores: Mapping[int, float] = field(default_factory=dict)
    judge_error: str = ""
    reply: str = ""
    cells: tuple[CellFailure, ...] = ()


def decide(
    plan: EnsembleSpec,
    outcomes: Sequence[Outcome],
    further: Outcome | None,
    question: Callable[[], str],
    context: Any = None,
) -> tuple[Outcome, Decision] | None:
    """Decide one call, or return None if the judge or the strong model must be asked.

    Args:
        plan: The ensemble.
        outcomes: One per member, in order.
        further: The outcome of the judge or the strong model. None if it has not been asked.
        question: Returns the prompt. Called only to read a judge's scores.
        context: The validators' `info.context`.
    """
    if plan.assembly is not None:
        return plan.assembly(outcomes)
    answered = [at for at, outcome in enumerate(outcomes) if outcome.failure is None]
    if not answered:
        return _all_failed(outcomes), Decision("failed", None)
    values = [plan.answer(outcomes[at].value) for at in answered]
    if any(isinstance(value, Called) for value in values):
        return _by_calls(values, outcomes, answered)
    tally = VoteCount(plan.output, values)
    if callable(plan.decide):
        return _by_function(plan.decide, tally, outcomes, answered, plan.members[0].spec.options.validator_timeout_s)
    how: How = "only" if len(answered) == 1 else "agreed" if tally.unanimous else "vote"
    if further is None and plan.further is not None and how == "vote":
        return None
    scores: Mapping[int, float] = {}
    judge_error = reply = ""
    if further is not None and further.failure is None:
        value, reply = further.value, further.last or further.key
        how = "escalated"
        if plan.decide == "judge":
            how, value = "judge", further.value.answer
            order = shown_order(question(), tally)
            scores = {answered[at]: mark for at, mark in scores_of(further.value.scores, order).items()}
        at = tally.index(value)
    else:
        if further is not None and further.failure is not None:
            how, judge_error = "fallback", f"{further.failure.kind}: {further.failure.message}"
        value, at = tally.majority(plan.vote, context)
    decision = Decision(
        how, None if at is None else answered[at], tally.agreement, tally.whole, scores, judge_error, reply
    )
    return _outcome(value, None, outcomes, further), decision


def _by_calls(values: Sequence[Any], outcomes: Sequence[Outcome], answered: Sequence[int]) -> tuple[Outcome, Decision]:
    """Choose what most members did if some of them called tools: the same tool calls, or the same answer.

    No judge is asked: the calling program decides what to run, and a tool call cannot be reworded.
    """
    said = [
        identity([(call.name, call.args) for call in value.calls] if isinstance(value, Called) else [value])
        for value in values
    ]
    most, times = Counter(said).most_common(1)[0]
    at = said.index(most)
    how: How = "only" if len(said) == 1 else "agreed" if times == len(said) else "vote"
    return _outcome(values[at], None, outcomes, None), Decision(how, answered[at], (), times / len(said))


def _by_function(
    function: Callable[[list[Any]], Any],
    tally: VoteCount,
    outcomes: Sequence[Outcome],
    answered: Sequence[int],
    timeout_s: float,
) -> tuple[Outcome, Decision]:
    try:
        deciding = user_threads().submit(function, list(tally.values))
        if not wait([deciding], timeout_s).done:
            raise TimeoutError(f"it did not return within validator_timeout_s={timeout_s:g} s")
        value = deciding.result()
        try:
            at = tally.index(value)
        except Exception as error:
            raise TypeError(f"it returned {value!r:.80}, which is not an answer of the requested type") from error
    except BaseException as error:  # the caller's code in our thread: its sys.exit() must not end anything
        failure = Failure(FailureKind.DECISION, f"The decide function gave no answer: {type(error).__name__}: {error}")
        return _outcome(None, failure, outcomes, None), Decision("failed", None, tally.agreement, tally.whole)
    chosen = None if at is None else answered[at]
    return _outcome(value, None, outcomes, None), Decision("function", chosen, tally.agreement, tally.whole)


def _all_failed(outcomes: Sequence[Outcome]) -> Outcome:
    """Combine all failures into one: the first retryable one, or else the first. Its message counts the others."""
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    first = next((one for one in failures if one.kind.retried), failures[0])
    if len(failures) > 1:
        kinds = ", ".join(f"{kind} ({times})" for kind, times in Counter(one.kind for one in failures).items())
        first = replace(
            first,
            message=f"All {len(failures)} answers failed: {kinds}. For example: {first.message}",
            attempts=sum(one.attempts for one in failures),
        )
    return _outcome(None, first, outcomes, None)


def _outcome(value: Any, failure: Failure | None, outcomes: Sequence[Outcome], further: Outcome | None) -> Outcome:
    behind = [*outcomes, *([] if further is None else [further])]
    metas = tuple(meta for outcome in behind for meta in outcome.metas)
    # A failure shows the reply, and without a store the reply is kept only here.
    entry = outcomes[0].entry
    return Outcome(value, failure, outcomes[0].key, metas, all(outcome.cached for outcome in behind), entry)
