"""Turn stored replies into outcomes: validation, and the chain of further turns.

This runs in a worker thread, since validators are the user's code. Replaying a chain from the store gives the same
outcome without sending anything, because a further turn is an ordinary call: its text about errors depends only on
their places and types, and its tool results are stored too. An answer from a pack gets no repair turns: a row whose
answer is invalid there is asked alone, as if it had never been in a pack.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.evidence_turns import evidence_turn, second_answer
from pllm_notebook.execution.follow_ups import (
    FirstAnswer,
    FollowUp,
    NextTurn,
    PromptUnavailable,
    SingleCall,
    ToolCalls,
    UnreadReply,
)
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.reply_outcomes import failed, unread, unusable
from pllm_notebook.execution.tool_results import invalid_call_result, result_key, result_of
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Dialogue, Prompt, RawRequest, Turn
from pllm_notebook.protocols import Store
from pllm_notebook.providers import SchemaLevel, decoded, loaded
from pllm_notebook.schema import Invalid, repair_lines
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.tools import Called, ReadCall, unvalidated_call
from pllm_notebook.types import Finish

__all__ = ["ReplyParser", "Step"]

logger = logging.getLogger("pllm_notebook")

Step = Outcome | FollowUp | ToolCalls
"""What follows from a reply: the row's outcome, a further call, or tools to run."""

_EMPTY = (
    "The reply holds no text. Running the cell again asks again; allow_empty=True takes an empty reply as the answer."
)


@dataclass(frozen=True, slots=True, eq=False)
class ReplyParser:
    """Turn the stored replies to one spec's calls into steps. From any thread.

    Attributes:
        spec: The spec of the calls.
        store: Where further turns and tool results are looked up, None to look nowhere.
        prompt: Builds one row's prompt.
    """

    spec: CallSpec
    store: Store | None
    prompt: Callable[[int], Prompt]

    def read(self, replies: Sequence[UnreadReply]) -> list[Step]:
        """Return the steps of *replies*, in order. Raises no `Exception`.

        All are read at once, since validating in bulk costs a third less. If that raises, they are read one by one, and
        a reply that still cannot be read fails only its own row.
        """
        if self.spec.evidence is not None and len(replies) > 1 and any(reply.first is not None for reply in replies):
            return [step for reply in replies for step in self.read([reply])]
        try:
            return self._read(replies)
        except Exception:
            logger.debug("A group of %d replies could not be read", len(replies), exc_info=True)
        steps: list[Step] = []
        for reply in replies:
            try:
                steps += self._read([reply])
            except Exception as error:
                logger.exception("A reply could not be read")
                steps.append(unread(reply, error))
        return steps

    def _read(self, replies: Sequence[UnreadReply]) -> list[Step]:
        spec = self.spec
        if spec.evidence is not None and replies[0].first is not None:  # the only one
            return [second_answer(spec, replies[0])]
        steps: list[Step | None] = [None] * len(replies)
        whole = [
            i
            for i, reply in enumerate(replies)
            if (entry := reply.entry).finish is Finish.COMPLETE and (entry.text or spec.takes_empty)
        ]
        if len(whole) < len(replies):
            for i, reply in enumerate(replies):
                if reply.entry.finish is Finish.COMPLETE and not (reply.entry.text or spec.takes_empty):
                    steps[i] = self._empty(reply)
        if spec.fitted is None:
            for i in whole:
                text = replies[i].entry.text.decode("utf-8", "surrogatepass")
                steps[i] = self._text(replies[i], text)
        else:
            contexts = None if spec.contexts is None else [spec.contexts.of(replies[i].row) for i in whole]
            parsed = spec.fitted.parse_many([replies[i].entry.text or spec.empty_json for i in whole], contexts)
            if spec.target.unenforced_schema:
                for i, value in zip(whole, parsed, strict=True):
                    if type(value) is not Invalid and replies[i].schema_level is not None:
                        spec.target.quirks.schemas.follow(_schema_of(spec, replies[i]))
            for i, value in zip(whole, parsed, strict=True):
                if type(value) is Invalid:
                    steps[i] = self._invalid(replies[i], value)
                else:
                    outcome = _answered(replies[i], value)
                    quotes = spec.evidence is not None
                    steps[i] = self._with_evidence(replies[i], outcome) if quotes else outcome
        return [
            self._incomplete(reply) if step is None else step  # every complete one has been filled in
            for reply, step in zip(replies, steps, strict=True)
        ]

    def _incomplete(self, reply: UnreadReply) -> Step:
        return self._called(reply) if reply.entry.finish is Finish.CALLED else unusable(reply)

    def _text(self, reply: UnreadReply, text: str) -> Outcome:
        spec = self.spec
        if not spec.calls:
            return _answered(reply, text)
        choice = "auto" if spec.toolbox is None else spec.toolbox.choice
        if choice not in ("auto", "none") and spec.target.quirks.forced:
            named = "" if choice == "required" else f" of {choice!r}"
            return failed(reply, FailureKind.TOOL_CALL, f"A call{named} was required, and the model made none.")
        return _answered(reply, Called(text, ()))

    def _empty(self, reply: UnreadReply) -> Step:
        if "pack" in reply.entry.metadata:
            return self._alone(reply, FailureKind.EMPTY, _EMPTY)
        return failed(reply, FailureKind.EMPTY, _EMPTY, reply.entry.raw[:2000].decode("utf-8", "replace"))

    def _invalid(self, reply: UnreadReply, invalid: Invalid) -> Step:
        spec = self.spec
        assert spec.fitted is not None
        quirks = spec.target.quirks
        text = reply.entry.text.decode("utf-8", "surrogatepass")
        if (
            spec.target.unenforced_schema
            and reply.schema_level is not None
            and not spec.fitted.follows(reply.entry.text)
        ):
            # A server that enforced the schema could not have written this. What a validator rejects, it could.
            quirks.note_odd_reply(_schema_of(spec, reply), spec.target.label, reply.schema_level)
        if "pack" in reply.entry.metadata:
            return self._alone(reply, invalid.kind, invalid.message)
        if invalid.kind is FailureKind.INVALID_JSON:
            found = spec.fitted.find(text, None if spec.contexts is None else spec.contexts.of(reply.row))
            if found is not None and found.failure is None:
                return self._with_evidence(reply, _answered(reply, found.value))
            invalid = invalid if found is None or found.failure is None else found.failure
        if reply.repairs >= spec.options.max_repairs:
            return failed(reply, invalid.kind, invalid.message)
        dialogue = self._dialogue(reply)
        if isinstance(dialogue, Failure):
            return failed(reply, dialogue.kind, dialogue.message)
        turns = (*dialogue.turns, Turn("assistant", text or "(no answer)"), Turn("user", _correction(invalid)))
        further = self._further(reply, replace(dialogue, turns=turns), repair=True)
        return failed(reply, invalid.kind, invalid.message) if further is None else further

    def _further(
        self,
        reply: UnreadReply,
        dialogue: Dialogue,
        *,
        tool_meta: tuple[bytes, ...] = (),
        repair: bool = False,
        first: FirstAnswer | None = None,
    ) -> Step | None:
        """Continue with a further turn, from the store as far as possible; None if it must not be sent."""
        key = self.spec.key_of(dialogue)
        known = self._stored(key)
        if known is not None:
            later = reply.followed(key, known, dialogue, tool_meta, repair=repair, first=first)
            return self.read([later])[0]
        return None if self.spec.options.cache == "only" else NextTurn(reply, key, dialogue, tool_meta, repair, first)

    def _stored(self, key: str) -> StoredReply | None:
        """Return the stored reply to a further call that this run can use, None for none."""
        spec = self.spec
        known = (
            self.store.get_many([key]).get(key)
            if self.store is not None and spec.options.cache in ("use", "only")
            else None
        )
        return known if known is not None and known.satisfies(spec.output_limit, spec.takes_empty) else None

    def _with_evidence(self, reply: UnreadReply, outcome: Outcome) -> Step:
        """Return an answer's outcome, or the turn that asks once more for its missing evidence."""

        def further(dialogue: Dialogue, first: FirstAnswer) -> Step | None:
            return self._further(reply, dialogue, first=first)

        return evidence_turn(self.spec, reply, outcome, partial(self._dialogue, reply), further)

    def _called(self, reply: UnreadReply) -> Step:
        """Return the step for a complete reply that calls tools."""
        spec = self.spec
        entry, box, options = reply.entry, spec.toolbox, spec.options
        calls = entry.calls
        if box is None and spec.calls:
            return _answered(
                reply, Called(entry.text.decode("utf-8", "surrogatepass"), tuple(map(unvalidated_call, calls)))
            )
        names = ", ".join(dict.fromkeys(call.name for call in calls))
        raw = "\n".join(f"{call.name}({call.arguments})" for call in calls)
        if box is None or not (spec.calls or options.run_tools):
            if (whole := self._whole_answer(reply)) is not None:
                return whole
            message = (
                f"The model called {names} in place of an answer, and nothing runs tools here. run_tools=True runs "
                f"functions that are given as tools=; df.llm.call_tools gives the calls themselves."
            )
            return failed(reply, FailureKind.TOOL_CALL, message, raw)
        read = box.read(calls, spec.target.dialect)
        was_offered = spec.calls or any(one.tool is not None for one in read)
        if not was_offered and (whole := self._whole_answer(reply)) is not None:
            return whole
        wrong = [one for one in read if one.invalid is not None]
        if spec.calls and not wrong:
            text = entry.text.decode("utf-8", "surrogatepass")
            return _answered(reply, Called(text, tuple(one.call for one in read)))
        if wrong and reply.repairs >= options.max_repairs:
            message = "; ".join(f"{one.call.name}: {one.invalid.message}" for one in wrong if one.invalid is not None)
            return failed(reply, FailureKind.SCHEMA, message, raw)
        if options.run_tools and reply.turns + 1 >= options.max_turns:
            message = (
                f"The model still calls tools ({names}) in its reply {reply.turns + 1}, and max_turns="
                f"{options.max_turns} replies may go into one answer. Raise it to let the model go on."
            )
            return failed(reply, FailureKind.TOOL_CALL, message, raw)
        dialogue = self._dialogue(reply)
        if isinstance(dialogue, Failure):
            return failed(reply, dialogue.kind, dialogue.message)
        # Keep the reply in its provider's own form: signatures in it must be sent back unchanged.
        decoded_reply = decoded(spec.target.wire, loaded(entry.raw))
        spoken = Turn("assistant", decoded_reply.text, calls=calls, echo=decoded_reply.echo)
        calling = ToolCalls(
            reply, replace(dialogue, turns=(*dialogue.turns, spoken)), read, self._known_results(reply, read)
        )
        if len(calling.results) == len(read):
            return self.with_results(calling, calling.results)
        if options.cache == "only":
            message = f"The result of {names} is not in the cache, and cache='only' runs nothing."
            return failed(reply, FailureKind.NOT_CACHED, message, raw)
        return calling

    def _whole_answer(self, reply: UnreadReply) -> Step | None:
        """Return the answer that a reply contains besides tool calls that are not run, None for no answer.

        Any provider may return text and calls together. A text that is a complete value of the type is the answer.
        Without a type, the text may only announce the call.
        """
        spec = self.spec
        if spec.fitted is None or not reply.entry.text:
            return None
        parsed = spec.fitted.parse(reply.entry.text, None if spec.contexts is None else spec.contexts.of(reply.row))
        if parsed.failure is not None:
            return None
        outcome = _answered(reply, parsed.value)
        return outcome if spec.evidence is None else self._with_evidence(reply, outcome)

    def _known_results(self, reply: UnreadReply, read: Sequence[ReadCall]) -> dict[int, StoredReply]:
        """Return, by position, the results of calls that need not run: invalid calls, and those in the store."""
        spec = self.spec
        known = {
            at: invalid_call_result(one, spec) for at, one in enumerate(read) if one.invalid is not None or spec.calls
        }
        if self.store is None or spec.options.cache not in ("use", "only"):
            return known
        keys = {result_key(reply, at, one.call): at for at, one in enumerate(read) if at not in known}
        return known | {keys[key]: entry for key, entry in self.store.get_many(list(keys)).items()}

    def with_results(
        self,
        calling: ToolCalls,
        results: Mapping[int, StoredReply],
    ) -> Step:
        """Continue the conversation with the results of tools.

        Args:
            calling: The calls.
            results: The result of each call, by its position.
        """
        entries = [results[at] for at in range(len(calling.read))]
        turn = Turn("tool", "", results=tuple(map(result_of, calling.read, entries)))
        dialogue = replace(calling.dialogue, turns=(*calling.dialogue.turns, turn))
        repair = any(one.invalid is not None for one in calling.read)
        tool_meta = tuple(entry.meta for entry in entries)
        further = self._further(calling.reply, dialogue, tool_meta=tool_meta, repair=repair)
        if further is None:
            message = "The model's next turn is not in the cache, and cache='only' sends nothing."
            return failed(calling.reply, FailureKind.NOT_CACHED, message)
        return further

    def _alone(
        self,
        reply: UnreadReply,
        kind: FailureKind,
        message: str,
    ) -> Step:
        spec = self.spec
        encoded = spec.encoded(self.prompt(reply.row))
        assert not isinstance(encoded, Failure)  # it was sent in a pack before
        key = spec.plain_key(encoded)
        metas = reply.paid
        known = self._stored(key)
        if known is not None:
            later = replace(SingleCall(reply.call, reply.row, key, metas).found(known), cached=reply.cached)
            return self.read([later])[0]
        if spec.options.cache == "only":
            return failed(reply, kind, message)
        return SingleCall(reply.call, reply.row, key, metas)

    def _dialogue(self, reply: UnreadReply) -> Dialogue | Failure:
        """Return the conversation that a reply answers, or why it can no longer be built."""
        if reply.dialogue is not None:
            return reply.dialogue
        try:
            asked = self.prompt(reply.row)
        except PromptUnavailable as lost:
            return lost.failure
        assert not isinstance(
            asked, RawRequest
        )  # a caller's own body has no type to validate against, and no tools of ours
        return self.spec.encoder.dialogue(asked)


def _schema_of(spec: CallSpec, reply: UnreadReply) -> SchemaLevel:
    """Return what is known about the schema that a reply was sent with: the pack's schema for a packed reply."""
    is_packed = spec.packed is not None and "pack" in reply.entry.metadata
    return spec.packed.schema_level if is_packed and spec.packed is not None else spec.schema_level


def _answered(reply: UnreadReply, value: object) -> Outcome:
    metas = reply.paid if reply.reason else (*reply.metas, reply.entry.meta)
    return Outcome(value, None, reply.key, metas, reply.cached, last=reply.turn_key)


def _correction(invalid: Invalid) -> str:
    """Describe the errors to the model by place and type alone: a library's wording must not change the key."""
    if invalid.kind is FailureKind.INVALID_JSON:
        return "That is not valid JSON. Answer again, with the JSON value alone."
    lines = "\n".join(f"- {line}" for line in repair_lines(invalid))
    return f"That does not fit the schema:\n{lines}\nAnswer again, with the whole corrected JSON value alone."
