"""From stored replies to outcomes: validation, and the chain of further turns.

Runs in a worker thread, since validators are the user's code. Replaying a chain from the store
gives the same outcome without sending anything, because a further turn is an ordinary call: what it
says of errors comes from their places and types alone, and what it says of tools is stored too. An
answer out of a pack has no repair turns: a row that is invalid there is asked by itself, as if it had
never been in a pack.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pllm_notebook.escaping import strip_control_chars
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.follow_ups import (
    FollowUp,
    NextTurn,
    PromptUnavailable,
    SingleCall,
    ToolCalls,
    UnreadReply,
    WiderCall,
)
from pllm_notebook.execution.results import Outcome
from pllm_notebook.execution.tool_results import refusal_result, result_key, result_of
from pllm_notebook.messages_types import Dialogue, Prompt, RawRequest, Turn
from pllm_notebook.protocols import Store
from pllm_notebook.providers.decoding import decoded, loaded
from pllm_notebook.records import Failure, FailureKind, Finish
from pllm_notebook.redaction import redact
from pllm_notebook.schema import Invalid, repair_lines
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.tools import Called, ReadCall, unvalidated_call

__all__ = [
    "FollowUp",
    "NextTurn",
    "SingleCall",
    "Step",
    "ToolCalls",
    "UnreadReply",
    "WiderCall",
    "read_replies",
    "with_results",
]

logger = logging.getLogger("pllm_notebook")

_SHOWN_DETAIL = 500

Step = Outcome | FollowUp | ToolCalls
"""What becomes of a reply: the row's outcome, a further call, or tools to run."""

_KEPT = frozenset(
    {
        FailureKind.REFUSAL,
        FailureKind.FILTERED,
        FailureKind.TRUNCATED,
        FailureKind.INVALID_JSON,
        FailureKind.SCHEMA,
        FailureKind.TOOL_CALL,
    }
)

_UNUSABLE = {
    Finish.TRUNCATED: (
        FailureKind.TRUNCATED,
        "The reply was cut off at the output limit{limit}. Give a larger max_output_tokens.",
    ),
    Finish.REFUSED: (FailureKind.REFUSAL, "The model refused{detail}."),
    Finish.FILTERED: (FailureKind.FILTERED, "The provider's content filter stopped the reply{detail}."),
    Finish.UNFINISHED: (
        FailureKind.UNFINISHED,
        "The reply ended for a reason that is not a normal end{detail}. Running the cell again asks again.",
    ),
}

_EMPTY = (
    "The reply holds no text. Running the cell again asks again; allow_empty=True takes an empty reply as the answer."
)


def read_replies(
    ask: CallSpec, store: Store | None, prompt: Callable[[int], Prompt], arrivals: Sequence[UnreadReply]
) -> list[Step]:
    """Read *arrivals*, in order, one by one where a group cannot be read. Nothing escapes.

    A reply that cannot be read by itself either is the failure of its own row.

    Args:
        ask: The question.
        store: Where stored repair turns are looked for, None to look nowhere.
        prompt: Makes one row's prompt.
        arrivals: What came; all are read at once, since validating in bulk costs a third less.
    """
    try:
        return _read(ask, store, prompt, arrivals)
    except Exception:
        logger.debug("A group of %d replies could not be read", len(arrivals), exc_info=True)
    settled: list[Step] = []
    for arrival in arrivals:
        try:
            settled += _read(ask, store, prompt, [arrival])
        except Exception as error:
            logger.exception("A reply could not be read")
            settled.append(_unread(arrival, error))
    return settled


def _read(
    ask: CallSpec, store: Store | None, prompt: Callable[[int], Prompt], arrivals: Sequence[UnreadReply]
) -> list[Step]:
    settled: list[Step | None] = [None] * len(arrivals)
    whole = [
        i
        for i, arrival in enumerate(arrivals)
        if (entry := arrival.entry).finish is Finish.COMPLETE and (entry.text or ask.takes_empty)
    ]
    if len(whole) < len(arrivals):
        for i, arrival in enumerate(arrivals):
            if arrival.entry.finish is Finish.COMPLETE and not (arrival.entry.text or ask.takes_empty):
                settled[i] = _empty(ask, store, prompt, arrival)
    if ask.fitted is None:
        for i in whole:
            text = arrivals[i].entry.text.decode("utf-8", "surrogatepass")
            settled[i] = _text(ask, arrivals[i], text)
    else:
        parsed = ask.fitted.parse_many([arrivals[i].entry.text or ask.empty_json for i in whole])
        for i, value in zip(whole, parsed, strict=True):
            if type(value) is Invalid:
                settled[i] = _invalid(ask, store, prompt, arrivals[i], value)
            else:
                settled[i] = _value(arrivals[i], value)
    return [
        _otherwise(ask, store, prompt, arrivals[i])
        if outcome is None
        else outcome  # every complete one has been filled in
        for i, outcome in enumerate(settled)
    ]


def _unread(arrival: UnreadReply, error: Exception) -> Outcome:
    told = redact(f"The reply could not be read: {type(error).__name__}: {error}"[:500])
    try:
        return _failed(arrival, FailureKind.MALFORMED, told)
    except Exception:  # what is known of it cannot be read either
        raw = arrival.entry.text.decode("utf-8", "replace")
        failure = Failure(FailureKind.MALFORMED, told, status=200, raw=raw, attempts=1, cost_usd=None)
        return Outcome(None, failure, arrival.key, (), arrival.cached)


def _text(ask: CallSpec, arrival: UnreadReply, text: str) -> Outcome:
    if not ask.calls:
        return _value(arrival, text)
    choice = "auto" if ask.toolbox is None else ask.toolbox.choice
    if choice not in ("auto", "none") and ask.target.quirks.forced:
        named = "" if choice == "required" else f" of {choice!r}"
        return _failed(arrival, FailureKind.TOOL_CALL, f"A call{named} was demanded, and the model made none.")
    return _value(arrival, Called(text, ()))


def _empty(ask: CallSpec, store: Store | None, prompt: Callable[[int], Prompt], arrival: UnreadReply) -> Step:
    if "pack" in arrival.entry.metadata:
        return _by_itself(ask, store, prompt, arrival, FailureKind.EMPTY, _EMPTY)
    return _failed(arrival, FailureKind.EMPTY, _EMPTY, arrival.entry.raw[:2000].decode("utf-8", "replace"))


def _value(arrival: UnreadReply, value: object) -> Outcome:
    metas = (*arrival.metas, arrival.entry.meta)
    return Outcome(value, None, arrival.key, metas, arrival.cached, last=arrival.turn_key)


def _failed(arrival: UnreadReply, kind: FailureKind, message: str, raw: str | None = None) -> Outcome:
    metas = (*arrival.metas, arrival.entry.meta)
    outcome = Outcome(None, None, arrival.key, metas, arrival.cached, arrival.entry)
    replies = outcome.replies()
    outcome.failure = Failure(
        kind=kind,
        message=f"{message.rstrip()}{_kept_since(kind, replies[-1])}" if arrival.cached else message,
        status=200,
        raw=arrival.entry.text.decode("utf-8", "replace") if raw is None else raw,
        attempts=sum(metadata["attempts"] for metadata in replies),
        request_id=replies[-1]["request_id"],
        cost_usd=outcome.cost_usd,
    )
    return outcome


def _kept_since(kind: FailureKind, reply: Mapping[str, Any]) -> str:
    """Say of a stored failure since when it is kept and how to ask again; "" for a kind that is not kept."""
    if kind not in _KEPT:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(reply["created_at"]))
    return f" Kept since {when} UTC and not paid for again; run.retry(kinds=['{kind}']) or cache='refresh' asks again."


def _otherwise(ask: CallSpec, store: Store | None, prompt: Callable[[int], Prompt], arrival: UnreadReply) -> Step:
    entry = arrival.entry
    if entry.finish is Finish.CALLED:
        return _called(ask, store, prompt, arrival)
    kind, message = _UNUSABLE[entry.finish]
    detail = strip_control_chars(entry.metadata["detail"][:_SHOWN_DETAIL]).strip()
    limit = f" of {entry.output_limit:,} tokens" if entry.output_limit else ""
    detail = f": {detail.rstrip('.')}" if detail else ""
    # Where an odd end brought no text, the body says what there was; a refusal's own words are in its message.
    kept = entry.text or entry.finish is not Finish.UNFINISHED
    raw = None if kept else entry.raw[:2000].decode("utf-8", "replace")
    return _failed(arrival, kind, message.format(limit=limit, detail=detail), raw)


def _invalid(
    ask: CallSpec, store: Store | None, prompt: Callable[[int], Prompt], arrival: UnreadReply, invalid: Invalid
) -> Step:
    assert ask.fitted is not None
    quirks = ask.target.quirks
    text = arrival.entry.text.decode("utf-8", "surrogatepass")
    if ask.target.unenforced_schema and arrival.schema_level is not None and not ask.fitted.follows(arrival.entry.text):
        # A server that enforced the schema could not have written this. What a validator refuses, it could.
        quirks.step_down(ask.target.label, arrival.schema_level)
    if "pack" in arrival.entry.metadata:
        return _by_itself(ask, store, prompt, arrival, invalid.kind, invalid.message)
    if invalid.kind is FailureKind.INVALID_JSON:
        found = ask.fitted.find(text)
        if found is not None and found.failure is None:
            return _value(arrival, found.value)
        invalid = invalid if found is None or found.failure is None else found.failure
    if arrival.repairs >= ask.options.max_repairs:
        return _failed(arrival, invalid.kind, invalid.message)
    said = _said(ask, prompt, arrival)
    if isinstance(said, Failure):
        return _failed(arrival, said.kind, said.message)
    turns = (*said.turns, Turn("assistant", text or "(no answer)"), Turn("user", _told(invalid)))
    further = _further(ask, store, prompt, arrival, replace(said, turns=turns), repair=True)
    return _failed(arrival, invalid.kind, invalid.message) if further is None else further


def _further(
    ask: CallSpec,
    store: Store | None,
    prompt: Callable[[int], Prompt],
    arrival: UnreadReply,
    said: Dialogue,
    *,
    told: tuple[bytes, ...] = (),
    repair: bool = False,
) -> Step | None:
    """Go on with a further turn, in the store as far as it goes; None where it would have to be sent and must not."""
    key = ask.key_of(said)
    known = store.get_many([key]).get(key) if store is not None and ask.options.cache in ("use", "only") else None
    if known is not None and known.satisfies(ask.output_limit, ask.takes_empty):
        return read_replies(ask, store, prompt, [arrival.followed(key, known, said, told, repair=repair)])[0]
    return None if ask.options.cache == "only" else NextTurn(arrival, key, said, told, repair)


def _called(ask: CallSpec, store: Store | None, prompt: Callable[[int], Prompt], arrival: UnreadReply) -> Step:
    """Settle a whole reply that calls tools."""
    entry, box, options = arrival.entry, ask.toolbox, ask.options
    calls = entry.calls
    if box is None and ask.calls:
        return _value(arrival, Called(entry.text.decode("utf-8", "surrogatepass"), tuple(map(unvalidated_call, calls))))
    names = ", ".join(dict.fromkeys(call.name for call in calls))
    raw = "\n".join(f"{call.name}({call.arguments})" for call in calls)
    if box is None or not (ask.calls or options.run_tools):
        told = (
            f"The model called {names} in place of an answer, and nothing runs tools here. run_tools=True runs "
            f"functions that are given as tools=; df.llm.call_tools gives the calls themselves."
        )
        return _failed(arrival, FailureKind.TOOL_CALL, told, raw)
    read = box.read(calls, ask.target.dialect)
    wrong = [one for one in read if one.invalid is not None]
    if ask.calls and not wrong:
        text = entry.text.decode("utf-8", "surrogatepass")
        return _value(arrival, Called(text, tuple(one.call for one in read)))
    if wrong and arrival.repairs >= options.max_repairs:
        message = "; ".join(f"{one.call.name}: {one.invalid.message}" for one in wrong if one.invalid is not None)
        return _failed(arrival, FailureKind.SCHEMA, message, raw)
    if options.run_tools and arrival.turns + 1 >= options.max_turns:
        told = (
            f"The model still calls tools ({names}) in its reply {arrival.turns + 1}, and max_turns="
            f"{options.max_turns} replies may go into one answer. Raise it to let the model go on."
        )
        return _failed(arrival, FailureKind.TOOL_CALL, told, raw)
    said = _said(ask, prompt, arrival)
    if isinstance(said, Failure):
        return _failed(arrival, said.kind, said.message)
    # The reply in its provider's own form: signatures in it must come back as they were.
    reply = decoded(ask.target.wire, loaded(entry.raw))
    spoken = Turn("assistant", reply.text, calls=calls, echo=reply.echo)
    calling = ToolCalls(
        arrival, replace(said, turns=(*said.turns, spoken)), read, _known_results(ask, store, arrival, read)
    )
    if len(calling.results) == len(read):
        return with_results(ask, store, prompt, calling, calling.results)
    if options.cache == "only":
        told = f"The result of {names} is not in the cache, and cache='only' runs nothing."
        return _failed(arrival, FailureKind.NOT_CACHED, told, raw)
    return calling


def _known_results(
    ask: CallSpec, store: Store | None, arrival: UnreadReply, read: Sequence[ReadCall]
) -> dict[int, StoredReply]:
    """Give, by their places, the results of calls that need not be run: wrong ones, and those in the store."""
    known = {at: refusal_result(one, ask) for at, one in enumerate(read) if one.invalid is not None or ask.calls}
    if store is None or ask.options.cache not in ("use", "only"):
        return known
    keys = {result_key(arrival, at, one.call): at for at, one in enumerate(read) if at not in known}
    return known | {keys[key]: entry for key, entry in store.get_many(list(keys)).items()}


def with_results(
    ask: CallSpec,
    store: Store | None,
    prompt: Callable[[int], Prompt],
    calling: ToolCalls,
    results: Mapping[int, StoredReply],
) -> Step:
    """Ask on with what tools gave.

    Args:
        ask: The question.
        store: As for `read_replies`.
        prompt: As for `read_replies`.
        calling: The calls.
        results: What each gave, by its place; of all of them.
    """
    entries = [results[at] for at in range(len(calling.read))]
    turn = Turn("tool", "", results=tuple(map(result_of, calling.read, entries)))
    said = replace(calling.said, turns=(*calling.said.turns, turn))
    repair = any(one.invalid is not None for one in calling.read)
    told = tuple(entry.meta for entry in entries)
    further = _further(ask, store, prompt, calling.arrival, said, told=told, repair=repair)
    if further is None:
        message = "The model's next turn is not in the cache, and cache='only' sends nothing."
        return _failed(calling.arrival, FailureKind.NOT_CACHED, message)
    return further


def _by_itself(
    ask: CallSpec,
    store: Store | None,
    prompt: Callable[[int], Prompt],
    arrival: UnreadReply,
    kind: FailureKind,
    message: str,
) -> Step:
    encoded = ask.encoded(prompt(arrival.row))
    assert not isinstance(encoded, Failure)  # it has been in a pack
    key = ask.plain_key(encoded)
    metas = (*arrival.metas, arrival.entry.meta)
    known = store.get_many([key]).get(key) if store is not None and ask.options.cache in ("use", "only") else None
    if known is not None and known.satisfies(ask.output_limit, ask.takes_empty):
        later = UnreadReply(arrival.call, key, known, arrival.row, metas=metas, cached=arrival.cached)
        return read_replies(ask, store, prompt, [later])[0]
    if ask.options.cache == "only":
        return _failed(arrival, kind, message)
    return SingleCall(arrival.call, arrival.row, key, metas)


def _said(ask: CallSpec, prompt: Callable[[int], Prompt], arrival: UnreadReply) -> Dialogue | Failure:
    """Return the conversation that a reply answers, or why it cannot be given any more."""
    if arrival.said is not None:
        return arrival.said
    try:
        asked = prompt(arrival.row)
    except PromptUnavailable as lost:
        return lost.failure
    assert not isinstance(asked, RawRequest)  # a whole body has no type that its reply could miss, and no tools of ours
    return ask.dialogue(asked)


def _told(invalid: Invalid) -> str:
    """Word the errors for the model, by place and type alone: a library's wording must not move the key."""
    if invalid.kind is FailureKind.INVALID_JSON:
        return "That is not valid JSON. Answer again, with the JSON value alone."
    lines = "\n".join(f"- {line}" for line in repair_lines(invalid))
    return f"That does not fit the schema:\n{lines}\nAnswer again, with the whole corrected JSON value alone."
