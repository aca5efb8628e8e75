"""Build the spec of one model or an ensemble from options, and start its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from pllm_notebook.callers import Caller, caller
from pllm_notebook.credentials import Key
from pllm_notebook.ensemble.decision_calls import decision_calls
from pllm_notebook.ensemble.decisions import EnsembleSpec, Member
from pllm_notebook.ensemble.ensemble_results import EnsembleResults
from pllm_notebook.ensemble.ensemble_rows import EnsembleRows, JudgedInputs
from pllm_notebook.ensemble.guaranteed_results import GuaranteedResults
from pllm_notebook.ensemble.judge_prompt import DECISION_MAKER_PROMPT, verdict_type
from pllm_notebook.ensemble.probability_options import check_probabilities
from pllm_notebook.ensemble.promise import asked_options, promise_for
from pllm_notebook.ensemble.reasoning import reasoned
from pllm_notebook.ensemble.token_confidence import TokenConfidence
from pllm_notebook.ensemble.votes import Vote
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import (
    CallSpec,
    Estimate,
    Execution,
    LiveRun,
    RequestLines,
    ResultTable,
    Rows,
    RunBudget,
    RunServices,
    build_spec,
    confirm,
    estimate_rows,
    request_lines,
    start,
)
from pllm_notebook.messages_types import Example, Turn
from pllm_notebook.options import Options, fields_of
from pllm_notebook.protocols import Display
from pllm_notebook.schema import OutputType
from pllm_notebook.statistics import planned_looks

__all__ = ["Spec", "ensemble_spec_for", "estimate", "lines", "spec_for", "submit"]

Spec = CallSpec | EnsembleSpec

# Output tokens of a judge for each candidate, besides the answer: five scores and their names.
_MARKS_TOKENS = 64

# An estimate assumes that a model's remaining samples are unknown after this many consecutive unknown samples with this
# many calls. Both bounds are needed: an expired batch job leaves a gap of at most 100,000 calls (Anthropic's limit),
# and a large frame has that many calls in one sample.
_UNKNOWN_SAMPLES = 8
_UNKNOWN_CALLS = 100_000


def spec_for(
    options: Options,
    output: OutputType | None,
    *,
    instruct: bool,
    examples: tuple[Example, ...] = (),
    task: str = "",
) -> Spec:
    """Build the spec of a call to one model, or of an ensemble.

    Args:
        options: Resolved options.
        output: The type to parse, None for plain text.
        instruct: Whether there is no prompt, so that the type must describe the task.
        examples: Shown to the model before each row's prompt.
        task: The prompt's instruction, without the rows' values. Only decision endpoints read it.

    Raises:
        UsageError: If the options do not allow it. Nothing was sent.
    """
    promise = promise_for(options, output)
    if promise is not None:
        options = asked_options(promise, options)
    check_probabilities(options, output)
    if options.probabilities == "decisions" and output is not None:
        for name in ("examples", "validation_context"):
            if getattr(options, name) is not None:
                raise UsageError(
                    f"probabilities='decisions' asks an endpoint that is shown no examples and whose answers are put "
                    f"together field by field, so {name}= does not apply. Leave one of them out. Nothing was sent."
                )
        return decision_calls(options, output, task, instruct=instruct)
    if promise is not None:
        return replace(ensemble_spec_for(options, output, instruct=instruct, examples=examples), promise=promise)
    if options.samples > 1 or len(options.models or ()) > 1:
        return ensemble_spec_for(options, output, instruct=instruct, examples=examples)
    for name in ("decide", "judge", "judge_effort", "agreement_column"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"{name}= is for several answers to a row: pass samples=3, or models=[…] with two or more; or, with "
                f"decide='escalate', guarantee=0.95. Nothing was sent."
            )
    if options.models:
        options = replace(options, model=options.models[0])
    return build_spec(options, output, instruct=instruct, examples=examples)


def ensemble_spec_for(
    options: Options,
    output: OutputType | None,
    *,
    instruct: bool = False,
    history: tuple[Turn, ...] = (),
    examples: tuple[Example, ...] = (),
    keys: Mapping[str, Key] | None = None,
    judging: Mapping[str, Any] | None = None,
    own: Callable[[Options], Options] | None = None,
    reasoning: bool = False,
    tolerant: bool = False,
    calls: bool = False,
    extended: Callable[[CallSpec], None] | None = None,
    called_by: Caller | None = None,
) -> EnsembleSpec:
    """Build the spec of an ensemble.

    Args:
        options: Resolved options.
        output: The caller's type, None for plain text.
        instruct: As for `spec_for`.
        history: Turns of the conversation before the prompt.
        examples: Shown before the prompt to members and to the strong model of an escalation.
        keys: API keys by provider that replace the environment's.
        judging: Options of the judge's call that differ from the usual ones.
        own: Returns a member's options, given the common ones with its model set. None to use those unchanged.
        reasoning: Whether members write their reasoning before the answer.
        tolerant: See `EnsembleSpec`.
        calls: Whether members may call tools instead of answering. The tools are not run.
        extended: Called with the spec of each member after it is built. None for nothing.
        called_by: The line that a warning names. None for the nearest one outside this package.

    Raises:
        UsageError: If the options do not allow it. Nothing was sent.
    """
    how, vote = _how(options, output)
    make: Callable[..., CallSpec] = partial(
        build_spec, instruct=instruct, history=history, examples=examples, keys=keys, calls=calls
    )
    before = reasoned(output) if reasoning else None
    sampled = output if before is None else before.output
    samples: Counter[str] = Counter()
    members = []
    for model in options.models or (options.model,):
        label = ""
        for _ in range(options.samples):
            # Samples are numbered per model, so that a model named twice does not reuse one stored answer.
            asked = replace(options, model=model)
            asked = asked if own is None else own(asked)
            spec = make(asked, sampled, sample=samples[label])
            if not label and samples[spec.target.label]:  # two names of one model
                spec = make(asked, sampled, sample=samples[spec.target.label])
            label = spec.target.label
            if extended is not None:
                extended(spec)
            members.append(Member(spec, label, samples[label]))
            samples[label] += 1
    if options.temperature == 0 and max(samples.values()) > 1:
        (called_by or caller()).warn(
            "Several samples of one model at temperature 0 are nearly always the same answer, paid for several times: "
            "leave the temperature out, or use several models."
        )
    further = None
    if how == "judge":
        other = (
            _judge_options(options, len(members)) | {"model": options.judge or members[0].model} | dict(judging or {})
        )
        further = build_spec(replace(options, **other), verdict_type(output), instruct=False, keys=keys)
    elif how == "escalate":
        effort = options.judge_effort or options.effort
        stronger = replace(options, model=options.judge, effort=effort, probabilities=None)  # a plain run's question
        further = make(stronger, output)
        if further.target.label in samples and further.sample == 0:
            raise UsageError(
                f"decide='escalate' asks a stronger model, but judge={options.judge!r} is one of those that answer. "
                f"Nothing was sent."
            )
    return EnsembleSpec(tuple(members), how, vote, further, output, before, tolerant=tolerant)


def submit(question: Spec, rows: Rows, run_budget: RunBudget | None = None, display: Display | None = None) -> LiveRun:
    """Start a run of *question* in the background and return its handle at once (see `execution.start`)."""
    options = (question if isinstance(question, CallSpec) else question.members[0].spec).options
    if options.mode == "batch" and options.confirm:
        confirm(estimate(question, rows))
    if isinstance(question, CallSpec):
        return start(question, rows, run_budget=run_budget, display=display)
    specs = [*(member.spec for member in question.members), *_some(question.further)]
    make = partial(ensemble_execution, question, rows)
    return start(specs[0], rows, further=specs[1:], make=make, run_budget=run_budget, display=display)


def ensemble_execution(plan: EnsembleSpec, rows: Rows, services: RunServices) -> Execution:
    """Return the execution of an ensemble: each row once per member, then the judge's rows."""
    specs = [member.spec for member in plan.members]
    asked = EnsembleRows(rows, len(specs), plan.judging)
    observer: Callable[[ResultTable], EnsembleResults] = partial(EnsembleResults, plan, asked)
    if plan.promise is not None:
        tokens = plan.promise.source == "logprobs"
        sure = TokenConfidence(specs[0], plan.promise.fields, services.store) if tokens else None
        observer = partial(GuaranteedResults, plan, asked, confidences=sure)
    return Execution(
        [*specs, *_some(plan.further)],
        asked,
        services,
        observer=observer,
        isolates=plan.tolerant,
    )


def estimate(question: Spec, rows: Rows) -> Estimate:
    """Estimate a run of *question*, without the calls made when answers differ. Sends nothing."""
    if isinstance(question, CallSpec):
        return estimate_rows(question, rows)
    whole = Estimate.together(list(_estimates(question, rows)))
    if question.promise is not None and question.further is not None:
        strong = estimate_rows(question.further, rows)
        looks = planned_looks(strong.rows - strong.skipped, question.promise.guarantee)
        least = looks[0] if looks else strong.rows - strong.skipped
        # A row whose labels confirm its low-cost answer needs no strong answer.
        least = 0 if looks and question.promise.labels.keys() == set(question.promise.names) else least
        return replace(whole, strong=strong, least_strong=least)
    return whole if question.further is None else replace(whole, decider=question.further.target.label)


def _estimates(plan: EnsembleSpec, rows: Rows) -> Iterator[Estimate]:
    """Yield the estimate of each member, in order. Samples assumed unknown reuse the estimate before them."""
    unknown: dict[str, list[Estimate]] = {}
    for at, member in enumerate(plan.members):
        before = unknown.setdefault(member.model, [])
        if before and not plan.judging and _is_exhausted(before, member.spec.options.cache):
            yield before[-1]
            continue
        part = estimate_rows(member.spec, JudgedInputs(rows) if at < plan.judging else rows)
        if part.cached or part.rejected or part.pending or part.measured:
            before.clear()
        else:
            before.append(part)
        yield part


def _is_exhausted(unknown: Sequence[Estimate], cache: str) -> bool:
    """Return whether further samples may be assumed unknown, after these consecutive unknown ones."""
    if cache == "off" or not unknown[-1].calls:  # the store is not read, or no row can be sent
        return True
    return len(unknown) >= _UNKNOWN_SAMPLES and len(unknown) * unknown[-1].calls >= _UNKNOWN_CALLS


def lines(question: Spec, rows: Rows, count: int) -> RequestLines:
    """Return the first request lines of a batch run of *question* (see `execution.request_lines`). Sends nothing."""
    specs = [question] if isinstance(question, CallSpec) else [member.spec for member in question.members]
    return request_lines(specs, rows, count)


def _how(
    options: Options, output: OutputType | None
) -> tuple[Literal["vote", "judge", "escalate"] | Callable[[list[Any]], Any], Vote]:
    decide: Any = options.decide or ("judge" if options.judge is not None else "vote")
    vote = Vote()
    if isinstance(decide, Vote):
        decide.check(output)
        decide, vote = "vote", decide
    if decide not in ("vote", "judge", "escalate") and not callable(decide):
        raise UsageError(
            f"decide is 'vote', 'judge', 'escalate', Vote(…) or a function that chooses one of the answers, not "
            f"{decide!r}. Nothing was sent."
        )
    if options.judge is not None and decide not in ("judge", "escalate"):
        raise UsageError("judge= is used only with decide='judge' or 'escalate'. Nothing was sent.")
    if options.judge_effort is not None and decide not in ("judge", "escalate"):
        raise UsageError("judge_effort= is used only with decide='judge' or 'escalate'. Nothing was sent.")
    if decide == "escalate" and options.judge is None:
        raise UsageError("decide='escalate' needs a stronger model: judge='provider:name'. Nothing was sent.")
    return decide, vote


def _judge_options(options: Options, members: int) -> dict[str, Any]:
    """Return the judge's options: its call is a different question, often at a different provider."""
    limit = options.max_output_tokens
    question = {name: each.default for name, each in fields_of(Options).items() if each.keyed}
    del question["model"], question["salt"]
    return question | {
        "system": DECISION_MAKER_PROMPT,
        "effort": options.judge_effort,
        "max_output_tokens": None if limit is None else limit + _MARKS_TOKENS * (members + 1),
    }


def _some(spec: CallSpec | None) -> list[CallSpec]:
    return [] if spec is None else [spec]
