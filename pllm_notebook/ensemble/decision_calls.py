"""The calls of a row with `probabilities="decisions"`: a decision endpoint decides, a chat model writes the rest."""

from __future__ import annotations

from dataclasses import replace

import orjson

from pllm_notebook.ensemble.assembly import Assembly
from pllm_notebook.ensemble.decisions import EnsembleSpec, Member
from pllm_notebook.ensemble.ensemble_rows import JudgedInputs
from pllm_notebook.ensemble.votes import Vote
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import CallSpec, RowSource, build_spec, decision_target
from pllm_notebook.failures import Failure
from pllm_notebook.options import Options, fields_of
from pllm_notebook.schema import DecisionOutput, OutputType, QuestionPlan

__all__ = ["decision_calls", "first_bodies"]

# How many rows are searched for one that can be sent.
_LOOKED_AT = 100

# Options that only a chat model reads.
_OF_WRITING = ("effort", "service_tier", "top_p", "seed", "stop", "max_output_tokens", "extra_body", "max_repairs")


def first_bodies(plan: EnsembleSpec, rows: RowSource) -> tuple[str, ...]:
    """Return the path and body of each call of the first row that can be sent. Sends nothing."""
    made = []
    for at, member in enumerate(plan.members):
        source = JudgedInputs(rows) if at < plan.judging else rows
        prompts = source.prompts(range(min(rows.total, _LOOKED_AT)))
        first = next((one for one in prompts if one is not None and not isinstance(one, Failure)), None)
        encoded = None if first is None else member.spec.encoded(first)
        if encoded is not None and not isinstance(encoded, Failure):
            member.spec.shown = True
            body = orjson.dumps(orjson.loads(member.spec.content(encoded)), option=orjson.OPT_INDENT_2).decode()
            made.append(f"POST {member.spec.target.path}\n{body}")
    return tuple(made)


def decision_calls(options: Options, output: OutputType, task: str, *, instruct: bool) -> EnsembleSpec:
    """Build each row's calls: its questions, in as few requests as the endpoint allows, and a chat call for the rest.

    Args:
        options: Resolved options.
        output: The type to parse.
        task: The prompt's instruction, without the rows' values (see `JudgedRows`).
        instruct: Whether there is no prompt, so that the type must describe the task.

    Raises:
        UsageError: If the options do not allow it. Nothing was sent.
    """
    target = decision_target(options)
    assert target.decisions is not None
    if options.mode == "batch":
        raise UsageError(
            f"mode='batch' has no decisions: {target.decisions.title} has no batch API. Leave mode= out to ask it "
            f"live, at its own price. Nothing was sent."
        )
    plan = QuestionPlan(output, target.decisions.most_options)
    questions = plan.questions
    if not questions and plan.fields:
        raise UsageError(
            f"Each field of {output.name} with known values has only one, so there is no question for "
            f"{target.decisions.title}. Leave probabilities= out. Nothing was sent."
        )
    if not questions:
        raise UsageError(
            f"No field of {output.name} is a question for {target.decisions.title}: one has at most "
            f"{target.decisions.most_options} values. Nothing was sent."
        )
    known = fields_of(Options)
    own = replace(options, **{name: known[name].default for name in _OF_WRITING}, max_cost_usd=options.max_cost_usd)
    own = replace(own, max_repairs=0)
    system = "\n\n".join(filter(None, (options.system, output.doc, task))) or None
    parts = [DecisionOutput(plan, some) for some in target.decisions.split(questions, system)]
    members = [Member(CallSpec(target, own, part, system), target.label, 0) for part in parts]
    if plan.rest is not None:
        written = build_spec(options, plan.rest, instruct=instruct)
        members.append(Member(written, written.target.label, 0))
    return EnsembleSpec(
        tuple(members), "vote", Vote(), None, output, assembly=Assembly(plan, parts), judging=len(parts)
    )
