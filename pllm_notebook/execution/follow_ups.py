"""Replies on their way to an outcome: one that has arrived, and what a row may need beyond it."""

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
"""Makes a request's bytes, with an output limit in place of the question's own, None for that."""


class PromptUnavailable(Exception):
    """A row's prompt that could be made when the row was planned, and cannot be now: a file of it is gone.

    Never reaches a person; it becomes the row's failure.
    """

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """A valid answer that lacks evidence for some fields, which are asked for once more.

    Attributes:
        value: Its value, which the row has if no second answer comes.
        text: Of its reply.
        key: Of that reply.
        turn_key: The same, "" where it is to the row's own call.
        fields: Names in JSON of what lacks evidence.
    """

    value: Any
    text: bytes
    key: str
    turn_key: str
    fields: tuple[str, ...]


@dataclass(slots=True)
class UnreadReply:
    """A reply that is in the store (or in hand, where there is none) and not yet read.

    Attributes:
        call: Index in the result table.
        key: Key of the row's own call, not of a repair.
        entry: The reply.
        row: Whose prompt it answers.
        dialogue: The conversation so far; None for the row's own call.
        metas: Of the replies before this one.
        repairs: Number of turns before it that asked for a correction.
        turns: Number of turns before it that brought the model the results of its tools.
        cached: Whether everything so far came from the store.
        schema_level: The level of structured output it was sent on, None for a stored one.
        attempts: Requests that this reply took.
        turn_key: Of the call that it answers, "" for the row's own.
        first: The answer that it is to add evidence to; None for one that is itself the first.
        reason: Why the model was asked for it, in words that follow its name; "" for the row's own call.
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
        """What is known of all replies so far, this one last (see `Outcome.metas`)."""
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
        """Return what comes of the reply to a further turn, as one that was found.

        Args:
            key: Of the further turn's call.
            entry: The reply to it.
            dialogue: The conversation that it was asked with.
            tool_meta: What is known of tools' results that it was asked with (see `Outcome.metas`).
            repair: Whether it was asked since this reply was wrong.
            first: This reply's answer, where it was asked since evidence is missing.
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
    """A further call that a row needs. Made as one of the kinds below.

    Attributes:
        call: Index in the result table.
        key: Of the further call.
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
        """Return what makes the wire's bytes, and their number; or why it cannot be sent any more."""

    @abstractmethod
    def arrived(self, entry: StoredReply, schema_level: int) -> UnreadReply:
        """Return its reply as one that is still to be read."""

    @abstractmethod
    def found(self, entry: StoredReply) -> UnreadReply:
        """Return the reply that another run has stored for it, as one that is still to be read."""

    @abstractmethod
    def failed(self, failure: Failure) -> Outcome:
        """Return the outcome of a row whose further call failed: what was paid before it is kept."""


@dataclass(frozen=True)
class NextTurn(FollowUp):
    """A further turn: the model is shown what was wrong with its answer, what lacks evidence, or what its tools gave.

    Attributes:
        reply: The reply that it follows.
        dialogue: The conversation, the turn to be sent included.
        tool_meta: What is known of tools' results in it (see `Outcome.metas`).
        repair: Whether the reply was wrong.
        first: The reply's answer, where that lacks evidence: it stays if no other comes.
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
    """A row of a pack that must be asked in a call of its own.

    Attributes:
        call: Index in the result table.
        row: Whose prompt it is.
        key: Of that call: the plain one.
        metas: What the row bears of packs that brought it no valid answer.
    """

    call: int
    row: int
    key: str
    metas: tuple[bytes, ...] = ()

    def content(self, spec: CallSpec, prompt: Callable[[int], Prompt]) -> tuple[Content, int]:
        encoded = spec.encoded(prompt(self.row))
        assert not isinstance(encoded, Failure)  # it has been in a pack
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
    """A call whose answer was cut off at an output limit that a ceiling on cost had set: it is asked again with more.

    Attributes:
        call: Index in the result table.
        row: Whose prompt it is.
        key: Of the call, which is the same with any output limit.
        above: The output limit at which the answer was cut off.
        metas: What is known of the answers that were cut off.
        inner: The further call that it is, None for the row's own.
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
    """A reply that calls tools, which are to be run before the model can be asked on.

    Attributes:
        reply: The reply.
        dialogue: The conversation, the reply included.
        read: Its calls, in order.
        results: Of those that need not be run: what they gave, by their place among the calls.
    """

    reply: UnreadReply
    dialogue: Dialogue
    read: Sequence[ReadCall]
    results: Mapping[int, StoredReply]

    @property
    def key(self) -> str:
        """Of the call whose reply it is: that of the further call comes of the results."""
        return self.reply.turn_key or self.reply.key
