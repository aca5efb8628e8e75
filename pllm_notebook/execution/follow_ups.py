"""Replies that are not read yet, and the follow-up calls that a row may need before it has an outcome."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Dialogue, Prompt
from pllm_notebook.stored_metadata import decode_metadata
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.tools import ReadCall

__all__ = [
    "Content",
    "FirstAnswer",
    "FollowUp",
    "NextTurn",
    "PromptUnavailable",
    "SingleCall",
    "ToolCalls",
    "UnreadReply",
    "WiderCall",
]

Content = Callable[[int | None], bytes]
"""Builds a request's bytes, given an output limit to use instead of the spec's own; None for the spec's own."""


class PromptUnavailable(Exception):
    """A row's prompt can no longer be built, although it could when the row was planned: one of its files is gone.

    Never reaches the user; it becomes the row's failure.
    """

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """A valid answer that lacks evidence for some fields, for which the model is asked once more.

    Attributes:
        value: The answer's value, which the row keeps if no second answer comes.
        text: The reply's text.
        key: The reply's key.
        turn_key: The same key, "" if the reply answers the row's own call.
        fields: JSON names of the fields that lack evidence.
    """

    value: Any
    text: bytes
    key: str
    turn_key: str
    fields: tuple[str, ...]


@dataclass(slots=True)
class UnreadReply:
    """A reply that is in the store (or only in memory, without a store) and not yet read.

    Attributes:
        call: Index in the result table.
        key: Key of the row's own call, not of a repair.
        entry: The reply.
        row: The row whose prompt it answers.
        dialogue: The conversation so far; None for the row's own call.
        metas: Metadata of the replies before this one (see `Outcome.metas`).
        repairs: Number of turns before it that asked for a correction.
        turns: Number of turns before it that sent tool results to the model.
        cached: Whether everything so far came from the store.
        schema_level: The level of structured output that the request used, None for a stored reply.
        attempts: Requests that this reply took.
        turn_key: Key of the call that it answers, "" for the row's own call.
        first: The answer that this reply should add evidence to; None if this is the first answer.
        reason: Why the model was asked, in words that follow the model's name; "" for the row's own call.
    """

    call: int
    key: str
    entry: StoredReply
    row: int
    dialogue: Dialogue | None = None
    metas: tuple[bytes, ...] = ()
    repairs: int = 0
    cached: bool = True
    schema_level: int | None = None
    attempts: int = 0
    turns: int = 0
    turn_key: str = ""
    first: FirstAnswer | None = None
    reason: str = ""

    @property
    def paid(self) -> tuple[bytes, ...]:
        """Metadata of all replies so far, this one last (see `Outcome.metas`)."""
        own = self.entry.meta
        return (*self.metas, orjson.dumps({**decode_metadata(own), "reason": self.reason}) if self.reason else own)

    def followed(
        self,
        key: str,
        entry: StoredReply,
        dialogue: Dialogue,
        tool_meta: tuple[bytes, ...],
        *,
        repair: bool,
        first: FirstAnswer | None = None,
    ) -> UnreadReply:
        """Return the reply to a further turn, as found in the store.

        Args:
            key: Key of the further turn's call.
            entry: The reply to it.
            dialogue: The conversation that was sent.
            tool_meta: Metadata of the tool results in that turn (see `Outcome.metas`).
            repair: Whether the turn was sent because this reply was wrong.
            first: This reply's answer, if the turn was sent because evidence was missing; otherwise None.
        """
        reason = ""
        if first is not None:
            reason = f"asked once more for evidence of {', '.join(first.fields)}"
        elif repair and not tool_meta:
            reason = "shown what was wrong with its answer"
        return replace(
            self,
            entry=entry,
            dialogue=dialogue,
            metas=(*self.paid, *tool_meta),
            repairs=self.repairs + repair,
            turns=self.turns + (dialogue.turns[-1].role == "tool"),
            turn_key=key,
            schema_level=None,
            first=first,
            reason=reason,
        )


class FollowUp(ABC):
    """A further call that a row needs. The subclasses below are the kinds.

    Attributes:
        call: Index in the result table.
        key: Key of the further call.
        above: Output limit at which its answer was cut off before, 0 for none.
        dialogue: The whole conversation of a further turn; None for a row's own call.
    """

    __slots__ = ()
    call: int
    key: str
    above: int = 0
    dialogue: Dialogue | None = None

    @abstractmethod
    def content(self, spec: CallSpec, prompt: Callable[[int], Prompt]) -> tuple[Content, int] | Failure:
        """Return the function that builds the request body, and the body's size; or why it can no longer be sent."""

    @abstractmethod
    def arrived(self, entry: StoredReply, schema_level: int) -> UnreadReply:
        """Return the reply that has arrived for this call, still to be read."""

    @abstractmethod
    def found(self, entry: StoredReply) -> UnreadReply:
        """Return the stored reply to this call, still to be read."""

    @abstractmethod
    def failed(self, failure: Failure) -> Outcome:
        """Return the outcome of a row whose further call failed. It keeps what was paid before."""


@dataclass(frozen=True)
class NextTurn(FollowUp):
    """A further turn: it shows the model the errors of its answer, the missing evidence, or the results of its tools.

    Attributes:
        reply: The reply that the turn follows.
        dialogue: The conversation, including the turn to be sent.
        tool_meta: Metadata of the tool results in it (see `Outcome.metas`).
        repair: Whether the reply was wrong.
        first: The reply's answer, if it lacks evidence; the row keeps it if no other answer comes.
    """

    reply: UnreadReply
    key: str
    dialogue: Dialogue
    tool_meta: tuple[bytes, ...] = ()
    repair: bool = True
    first: FirstAnswer | None = None

    @property
    def call(self) -> int:  # type: ignore[override]
        """Index in the result table."""
        return self.reply.call

    def content(self, spec: CallSpec, prompt: Callable[[int], Prompt]) -> tuple[Content, int]:
        return partial(spec.content_of, self.dialogue), spec.size_of(self.dialogue)

    def arrived(self, entry: StoredReply, schema_level: int) -> UnreadReply:
        return replace(self.found(entry), cached=False, schema_level=schema_level)

    def found(self, entry: StoredReply) -> UnreadReply:
        return self.reply.followed(self.key, entry, self.dialogue, self.tool_meta, repair=self.repair, first=self.first)

    def failed(self, failure: Failure) -> Outcome:
        before = self.reply
        metas = (*before.paid, *self.tool_meta)
        if self.first is not None:
            return Outcome(self.first.value, None, before.key, metas, before.cached, last=self.first.turn_key)
        return Outcome(None, failure, before.key, metas, False, before.entry)


@dataclass(frozen=True)
class SingleCall(FollowUp):
    """A row of a pack that must be sent in its own call.

    Attributes:
        call: Index in the result table.
        row: The row whose prompt is sent.
        key: Key of the row's own call (`CallSpec.plain_key`).
        metas: The row's share of packs that gave it no valid answer.
    """

    call: int
    row: int
    key: str
    metas: tuple[bytes, ...] = ()

    def content(self, spec: CallSpec, prompt: Callable[[int], Prompt]) -> tuple[Content, int]:
        encoded = spec.encoded(prompt(self.row))
        assert not isinstance(encoded, Failure)  # it was sent in a pack before
        return partial(spec.content, encoded), spec.size(encoded)

    def arrived(self, entry: StoredReply, schema_level: int) -> UnreadReply:
        return replace(self.found(entry), cached=False, schema_level=schema_level)

    def found(self, entry: StoredReply) -> UnreadReply:
        reason = "asked about this row alone" if self.metas else ""
        return UnreadReply(self.call, self.key, entry, self.row, metas=self.metas, reason=reason)

    def failed(self, failure: Failure) -> Outcome:
        return Outcome(None, failure, self.key, self.metas, False)


@dataclass(frozen=True)
class WiderCall(FollowUp):
    """A call sent again with a higher output limit, since its answer was cut off at the limit that a cost ceiling set.

    Attributes:
        call: Index in the result table.
        row: The row whose prompt is sent.
        key: Key of the call, which does not depend on the output limit.
        above: The output limit at which the answer was cut off.
        metas: Metadata of the answers that were cut off.
        inner: The further call that is sent again, None for the row's own call.
    """

    call: int
    row: int
    key: str
    above: int = 0
    metas: tuple[bytes, ...] = ()
    inner: FollowUp | None = None

    @property
    def dialogue(self) -> Dialogue | None:  # type: ignore[override]
        """The whole conversation of a further turn."""
        return None if self.inner is None else self.inner.dialogue

    def content(self, spec: CallSpec, prompt: Callable[[int], Prompt]) -> tuple[Content, int] | Failure:
        if self.inner is not None:
            return self.inner.content(spec, prompt)
        try:
            encoded = spec.encoded(prompt(self.row))
        except PromptUnavailable as lost:
            return lost.failure
        return encoded if isinstance(encoded, Failure) else (partial(spec.content, encoded), spec.size(encoded))

    def arrived(self, entry: StoredReply, schema_level: int) -> UnreadReply:
        return replace(self.found(entry), cached=False, schema_level=schema_level)

    def found(self, entry: StoredReply) -> UnreadReply:
        if self.inner is None:
            reason = "allowed a longer answer"
            return UnreadReply(self.call, self.key, entry, self.row, metas=self.metas, reason=reason)
        reply = self.inner.found(entry)
        return replace(reply, metas=(*reply.metas, *self.metas))

    def failed(self, failure: Failure) -> Outcome:
        if self.inner is None:
            return Outcome(None, failure, self.key, self.metas, False)
        outcome = self.inner.failed(failure)
        outcome.metas = (*outcome.metas, *self.metas)
        return outcome


@dataclass(frozen=True)
class ToolCalls:
    """A reply that calls tools, which must run before the conversation can continue.

    Attributes:
        reply: The reply.
        dialogue: The conversation, including the reply.
        read: The calls, in order.
        results: Results of the calls that need not run, by position among the calls.
    """

    reply: UnreadReply
    dialogue: Dialogue
    read: Sequence[ReadCall]
    results: Mapping[int, StoredReply]

    @property
    def key(self) -> str:
        """Key of the call that this reply answers; the next call's key depends on the results."""
        return self.reply.turn_key or self.reply.key
