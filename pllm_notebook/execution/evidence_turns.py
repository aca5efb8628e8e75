"""The second turn for answers that lack evidence: its question, and the use of its answer.

Only the fields that lacked evidence are taken from a second answer, both quote and value. All other fields keep the
first answer's values. A missing or invalid second answer changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.follow_ups import FirstAnswer, UnreadReply
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.failures import Failure
from pllm_notebook.formatting import counted
from pllm_notebook.messages_types import Dialogue, Turn
from pllm_notebook.schema import QuotingSchema
from pllm_notebook.types import Finish

__all__ = ["evidence_turn", "evidence_warning", "second_answer"]

StepT = TypeVar("StepT")


def evidence_turn(
    spec: CallSpec,
    reply: UnreadReply,
    outcome: Outcome,
    dialogue: Callable[[], Dialogue | Failure],
    further: Callable[[Dialogue, FirstAnswer], StepT | None],
) -> Outcome | StepT:
    """Return an answer's outcome, or the turn that asks again about fields without evidence.

    Args:
        spec: The spec of the call.
        reply: A reply that was read as a valid answer.
        outcome: The outcome of the reply.
        dialogue: Returns the conversation that it answers.
        further: Continues with a turn; returns None if it must not be sent.
    """
    fitted, evidence = spec.fitted, spec.evidence
    if evidence is None or not isinstance(fitted, QuotingSchema):
        return outcome
    lacking = tuple(evidence.unverified(reply.row, fitted.claims(reply.entry.text)))
    asked = dialogue() if lacking else None
    if asked is None or isinstance(asked, Failure):
        return outcome
    text = reply.entry.text
    first = FirstAnswer(outcome.value, text, reply.turn_key or reply.key, reply.turn_key, lacking)
    said = Turn("assistant", text.decode("utf-8", "surrogatepass"))
    step = further(replace(asked, turns=(*asked.turns, said, Turn("user", _request(lacking)))), first)
    return outcome if step is None else step


def second_answer(spec: CallSpec, reply: UnreadReply) -> Outcome:
    """Return the outcome of a row whose first answer lacked evidence, using the reply to the second question."""
    first, entry = reply.first, reply.entry
    assert first is not None
    if entry.finish is Finish.COMPLETE and isinstance(spec.fitted, QuotingSchema) and spec.evidence is not None:
        both = spec.fitted.combined(first.text, entry.text, first.fields)
        context = None if spec.contexts is None else spec.contexts.of(reply.row)
        read = None if both is None else spec.fitted.parse(both, context)
        if read is not None and read.failure is None:
            spec.evidence.asked_again(reply.key, first.key, first.fields)
            return Outcome(read.value, None, reply.key, reply.paid, reply.cached, last=reply.turn_key)
    unused = replace(reply, reason=f"{reply.reason} (the first answer stays)")
    return Outcome(first.value, None, reply.key, unused.paid, reply.cached, last=first.turn_key)


def evidence_warning(unasked: int) -> str:
    """Return the warning that *unasked* rows got no second question, because the budget had no room for it."""
    return (
        f"{counted(unasked, 'row', 'was')} not asked once more for evidence, since max_cost_usd left no money for it: "
        f"the first answers stay. Raise it and run the cell again to go on."
    )


def _request(fields: Sequence[str]) -> str:
    """Build the text of the question. It is part of the call's key."""
    lines = "\n".join(f"- {name}" for name in fields)
    return (
        f"No passage of the text is word for word the evidence that you give for:\n{lines}\nAnswer again, with the "
        f"whole JSON value: for each of these the passage that its value rests on, copied exactly, character for "
        f"character, and the value that it states. null as evidence where no passage states it."
    )
