"""From stored replies to outcomes: validation, and the chain of repair turns.

Runs in a worker thread, since validators are the user's code. Replaying a chain from the store
gives the same outcome without sending anything, because a repair turn is an ordinary call whose
words come from the errors' places and types alone. An answer out of a pack has no repair turns: a
row that is invalid there is asked by itself, as if it had never been in a pack.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pllm_notebook.entry import Entry
from pllm_notebook.protocols import Store
from pllm_notebook.records import Body, Dialogue, Failure, FailureKind, Finish, Prompt, Turn
from pllm_notebook.run.ask import Ask
from pllm_notebook.run.outcomes import Outcome
from pllm_notebook.schema import Invalid, extract_json, repair_lines

__all__ = ["Alone", "Arrival", "NextTurn", "Repair", "settle"]

_UNUSABLE = {
    Finish.TRUNCATED: (
        FailureKind.TRUNCATED,
        "The reply was cut off at the output limit{limit}. Give a larger max_output_tokens.",
    ),
    Finish.REFUSED: (FailureKind.REFUSAL, "The model refused{detail}."),
    Finish.FILTERED: (FailureKind.FILTERED, "The provider's content filter stopped the reply{detail}."),
}


@dataclass(slots=True)
class Arrival:
    """A reply that is in the store (or in hand, where there is none) and not yet read.

    Attributes:
        call: Index in the ledger.
        key: Key of the row's own call, not of a repair.
        entry: The reply.
        prompt: Makes the row's prompt, which only a repair needs.
        said: The conversation so far; None for the row's own call.
        metas: Of the replies before this one.
        repairs: Repair turns that are behind it.
        cached: Whether everything so far came from the store.
        rung: The structured-output rung it was sent on, None for a stored one.
        attempts: Requests that this reply took.
    """

    call: int
    key: str
    entry: Entry
    row: int
    said: Dialogue | None = None
    metas: tuple[bytes, ...] = ()
    repairs: int = 0
    cached: bool = True
    rung: int | None = None
    attempts: int = 0


class Repair(ABC):
    """A further call that a row needs. Made as one of the two kinds below.

    Attributes:
        call: Index in the ledger.
        key: Of the further call.
    """

    __slots__ = ()
    call: int
    key: str

    @abstractmethod
    def content(self, ask: Ask, prompt: Callable[[int], Prompt]) -> tuple[Callable[[], bytes], int]:
        """Give what makes the wire's bytes, and their number."""

    @abstractmethod
    def arrived(self, entry: Entry, rung: int) -> Arrival:
        """Give what comes of its reply."""

    @abstractmethod
    def found(self, entry: Entry) -> Arrival:
        """Give what comes of its reply where another run has brought it."""

    @abstractmethod
    def failed(self, failure: Failure) -> Outcome:
        """Give the outcome of a row whose further call failed: what was paid before it is kept."""


@dataclass(frozen=True)
class NextTurn(Repair):
    """A repair turn: the model is shown what was wrong with its answer.

    Attributes:
        arrival: The reply that is wrong.
        said: The conversation, the turn to be sent included.
    """

    arrival: Arrival
    key: str
    said: Dialogue

    @property
    def call(self) -> int:  # type: ignore[override]
        """Index in the ledger."""
        return self.arrival.call

    def content(self, ask: Ask, prompt: Callable[[int], Prompt]) -> tuple[Callable[[], bytes], int]:
        return partial(ask.content_of, self.said), len(ask.content_of(self.said))

    def arrived(self, entry: Entry, rung: int) -> Arrival:
        return replace(self.found(entry), cached=False, rung=rung)

    def found(self, entry: Entry) -> Arrival:
        before = self.arrival
        metas = (*before.metas, before.entry.meta)
        cached = before.cached
        return Arrival(before.call, before.key, entry, before.row, self.said, metas, before.repairs + 1, cached)

    def failed(self, failure: Failure) -> Outcome:
        before = self.arrival
        return Outcome(None, failure, before.key, (*before.metas, before.entry.meta), False, before.entry)


@dataclass(frozen=True)
class Alone(Repair):
    """A row of a pack that must be asked in a call of its own.

    Attributes:
        call: Index in the ledger.
        row: Whose prompt it is.
        key: Of that call: the plain one.
        metas: What the row bears of packs that brought it no valid answer.
    """

    call: int
    row: int
    key: str
    metas: tuple[bytes, ...] = ()

    def content(self, ask: Ask, prompt: Callable[[int], Prompt]) -> tuple[Callable[[], bytes], int]:
        words = ask.words(prompt(self.row))
        assert not isinstance(words, Failure)  # it has been in a pack
        return partial(ask.content, words), ask.size(words)

    def arrived(self, entry: Entry, rung: int) -> Arrival:
        return replace(self.found(entry), cached=False, rung=rung)

    def found(self, entry: Entry) -> Arrival:
        return Arrival(self.call, self.key, entry, self.row, metas=self.metas)

    def failed(self, failure: Failure) -> Outcome:
        return Outcome(None, failure, self.key, self.metas, False)


def settle(ask: Ask, store: Store | None, prompt: object, arrivals: Sequence[Arrival]) -> list[Outcome | Repair]:
    """Read *arrivals*, in order.

    Args:
        ask: The question.
        store: Where stored repair turns are looked for, None to look nowhere.
        prompt: `Rows.prompt`.
        arrivals: What came; all are read at once, since validating in bulk costs a third less.
    """
    settled: list[Outcome | Repair | None] = [None] * len(arrivals)
    whole = [i for i, arrival in enumerate(arrivals) if arrival.entry.finish is Finish.COMPLETE]
    if ask.fitted is None:
        for i in whole:
            settled[i] = _value(arrivals[i], arrivals[i].entry.text.decode("utf-8", "surrogatepass"))
    else:
        parsed = ask.fitted.parse_many([arrivals[i].entry.text for i in whole])
        for i, value in zip(whole, parsed, strict=True):
            if type(value) is Invalid:
                settled[i] = _invalid(ask, store, prompt, arrivals[i], value)
            else:
                settled[i] = _value(arrivals[i], value)
    return [
        _unusable(arrivals[i]) if outcome is None else outcome  # every complete one has been filled in
        for i, outcome in enumerate(settled)
    ]


def _value(arrival: Arrival, value: object) -> Outcome:
    return Outcome(value, None, arrival.key, (*arrival.metas, arrival.entry.meta), arrival.cached)


def _failed(arrival: Arrival, kind: FailureKind, message: str) -> Outcome:
    metas = (*arrival.metas, arrival.entry.meta)
    outcome = Outcome(None, None, arrival.key, metas, arrival.cached, arrival.entry)
    replies = outcome.replies()
    outcome.failure = Failure(
        kind=kind,
        message=message,
        status=200,
        raw=arrival.entry.text.decode("utf-8", "replace"),
        attempts=sum(about["attempts"] for about in replies),
        request_id=replies[-1]["request_id"],
        cost_usd=outcome.cost_usd,
    )
    return outcome


def _unusable(arrival: Arrival) -> Outcome:
    entry = arrival.entry
    kind, message = _UNUSABLE[entry.finish]
    detail = entry.about["detail"]
    limit = f" of {entry.output_limit:,} tokens" if entry.output_limit else ""
    detail = f": {detail.rstrip('.')}" if detail else ""
    return _failed(arrival, kind, message.format(limit=limit, detail=detail))


def _invalid(ask: Ask, store: Store | None, prompt: object, arrival: Arrival, invalid: Invalid) -> Outcome | Repair:
    assert ask.fitted is not None
    quirks = ask.target.quirks
    text = arrival.entry.text.decode("utf-8", "surrogatepass")
    if ask.target.ladder and arrival.rung is not None:
        # A server that enforced the schema could not have written this.
        quirks.step_down(ask.target.label, arrival.rung)
    if "pack" in arrival.entry.about:
        return _by_itself(ask, store, prompt, arrival, invalid)
    if invalid.kind is FailureKind.INVALID_JSON:
        found = extract_json(text)
        if found is not None:
            (value,) = ask.fitted.parse_many([found.encode("utf-8", "surrogatepass")])
            if type(value) is not Invalid:
                return _value(arrival, value)
            invalid = value
    if arrival.repairs >= ask.options.max_repairs:
        return _failed(arrival, invalid.kind, invalid.message)
    said = arrival.said or _asked(ask, prompt(arrival.row))  # type: ignore[operator]
    turns = (*said.turns, Turn("assistant", text or "(no answer)"), Turn("user", _told(invalid)))
    said = replace(said, turns=turns)
    key = ask.key_of(said)
    known = store.get_many([key]).get(key) if store is not None and ask.options.cache in ("use", "only") else None
    if known is None or not known.serves(ask.output_limit):
        if ask.options.cache == "only":
            return _failed(arrival, invalid.kind, invalid.message)
        return NextTurn(arrival, key, said)
    later = replace(
        arrival,
        entry=known,
        said=said,
        metas=(*arrival.metas, arrival.entry.meta),
        repairs=arrival.repairs + 1,
        rung=None,
    )
    return settle(ask, store, prompt, [later])[0]


def _by_itself(ask: Ask, store: Store | None, prompt: object, arrival: Arrival, invalid: Invalid) -> Outcome | Repair:
    words = ask.words(prompt(arrival.row))  # type: ignore[operator]
    assert not isinstance(words, Failure)  # it has been in a pack
    key = ask.plain_key(words)
    metas = (*arrival.metas, arrival.entry.meta)
    known = store.get_many([key]).get(key) if store is not None and ask.options.cache in ("use", "only") else None
    if known is not None and known.serves(ask.output_limit):
        later = Arrival(arrival.call, key, known, arrival.row, metas=metas, cached=arrival.cached)
        return settle(ask, store, prompt, [later])[0]
    if ask.options.cache == "only":
        return _failed(arrival, invalid.kind, invalid.message)
    return Alone(arrival.call, arrival.row, key, metas)


def _asked(ask: Ask, prompt: Prompt) -> Dialogue:
    assert not isinstance(prompt, Body)  # a whole body has no type that its reply could miss
    return ask.dialogue(prompt)


def _told(invalid: Invalid) -> str:
    """Word the errors for the model, by place and type alone: a library's wording must not move the key."""
    if invalid.kind is FailureKind.INVALID_JSON:
        return "That is not valid JSON. Answer again, with the JSON value alone."
    lines = "\n".join(f"- {line}" for line in repair_lines(invalid))
    return f"That does not fit the schema:\n{lines}\nAnswer again, with the whole corrected JSON value alone."
