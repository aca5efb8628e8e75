"""Calls that fail for good: which of them are kept, with what, and which are not sent again unasked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import orjson

from pllm_notebook.exceptions import sentence
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.row_source import DerivedRows
from pllm_notebook.execution.shared_store import SharedStore
from pllm_notebook.messages_types import Dialogue, Prompt
from pllm_notebook.prompts import prompt_as_text
from pllm_notebook.protocols import Store
from pllm_notebook.records import FailedCall, Failure, FailureKind
from pllm_notebook.stored_reply import StoredReply

__all__ = ["FailureRecorder", "RunScopedStore", "earlier_rejections", "full_message"]

# What says that this very request can never succeed. Another status of the same kind (a proxy's 405, a 410) is as
# often about the server; sending again shows which.
_FINAL_STATUS = frozenset({400, 413, 422})


class FailureRecorder:
    """What one run's failed calls leave in the store, and what earlier ones left there.

    Args:
        ask: The question.
        store: None to keep nothing.
        prompt: Makes one row's prompt.
        rows: Whose prompts they are.
    """

    def __init__(self, ask: CallSpec, store: Store | None, prompt: Callable[[int], Prompt], rows: object) -> None:
        self._ask = ask
        self._store = store
        self._prompt = prompt
        # A judge's rows are calls of an ensemble: their numbers mean nothing to a person.
        self._positions = isinstance(rows, LabelledRows)
        self._derived = rows if isinstance(rows, DerivedRows) else None

    def note(
        self, key: str, row: int, failure: Failure, dialogue: Dialogue | None = None, *, about_row: bool = True
    ) -> None:
        """Keep a failure, unless nothing was sent; returns at once.

        Args:
            key: Of the call.
            row: Whose prompt it is.
            failure: Why it failed.
            dialogue: The conversation of a further turn, None for the row's own call.
            about_row: Whether the row itself was refused (see `FailedCall.about_row`).
        """
        if self._store is not None and failure.kind.facts.logged:
            self._store.note_failure(key, partial(self._tell, key, row, failure, dialogue, time.time(), about_row))

    def _tell(
        self, key: str, row: int, failure: Failure, dialogue: Dialogue | None, at: float, about_row: bool
    ) -> FailedCall:
        """Build the prompt and the body, which are not kept. In the store's thread."""
        prompt = self._prompt(row)
        body = self._ask.whole(prompt) if dialogue is None else self._ask.canonical_body(dialogue)
        return FailedCall(
            key=key,
            failure=failure,
            model=self._ask.target.label,
            at=at,
            body=orjson.dumps(body).decode(),
            prompt=prompt_as_text(prompt),
            position=self._position_of(row),
            about_row=about_row,
        )

    def _position_of(self, row: int) -> int | None:
        if self._derived is not None:
            return self._derived.position_of(row)
        return row if self._positions else None

    def rejected(self, keys: Sequence[str]) -> dict[str, Failure]:
        """Return the failures of calls that a provider has rejected before and that are not to be sent again unasked.

        With `cache="refresh"` there are none: everything is sent.
        """
        return earlier_rejections(self._ask, self._store, keys)

    def valid(self, keys: Sequence[str]) -> None:
        """Forget failures of calls whose stored reply is valid by now: the type's own validators have changed."""
        if self._store is not None and keys:
            self._store.note_valid(keys)


def earlier_rejections(ask: CallSpec, store: Store | None, keys: Sequence[str]) -> dict[str, Failure]:
    """Return the failures that keep some of *keys* from being sent again unasked (see `FailureRecorder.rejected`)."""
    if store is None or ask.options.cache == "refresh" or not keys:
        return {}
    found = store.rejected(keys)
    return {key: _with_time(call) for key, call in found.items() if _is_final(call)}


def _is_final(call: FailedCall) -> bool:
    """Return whether a rejection would be met again: it was about the row, and its status is final."""
    return call.about_row and call.failure.status in _FINAL_STATUS


def _with_time(call: FailedCall) -> Failure:
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(call.at))
    advice = (
        f" Rejected at {when} UTC and not sent again, since the request is the same; "
        f"run.retry(kinds=[{str(call.failure.kind)!r}]) or cache='refresh' sends it."
    )
    return replace(call.failure, message=sentence(call.failure.message) + advice)


def full_message(failure: Failure) -> str:
    """Return a failure's message, with the rejected field where the provider's own words do not name it."""
    message, field = failure.message, failure.field
    if failure.kind is not FailureKind.BAD_REQUEST or not field or field in message:
        return message
    return f"{sentence(message)} (The provider rejected the field {field!r}.)"


@runtime_checkable
class LabelledRows(Protocol):
    """Rows of the caller's own (see `run.Rows`)."""

    label: str


@runtime_checkable
class NamedRows(Protocol):
    """Rows that have names of their own, as a frame's index gives them."""

    def name_of(self, row: int) -> str:
        """Return the name of a row."""


class RunScopedStore:
    """A store as one run uses it: what fails there bears the run's name, and the row's.

    Args:
        store: Where everything is kept.
        run: The run's id.
        asked: What it asks, in a few words.
        rows: Whose rows they are.

    Attributes:
        on_miss: Called once, by the thread that looks up the first entry that is not there: it will be sent for.
        shared: The store itself, where other processes use it too; None where they do not.
    """

    def __init__(self, store: Store, run: str, asked: str, rows: object) -> None:
        self._store = store
        # Looked at once: to ask what a store can do asks all of it.
        self.shared: SharedStore | None = store if isinstance(store, SharedStore) else None
        self._run = run
        self._asked = asked
        self._rows = rows
        self.on_miss: Callable[[], None] | None = None
        # The store's own, so that a call costs no more than it does there.
        self.put = store.put
        self.queued = store.queued
        self.note_valid = store.note_valid
        self.rejected = store.rejected

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        """Read entries (see `protocols.Store`)."""
        found = self._store.get_many(keys)
        if self.on_miss is not None and len(found) < len(keys):
            on_miss, self.on_miss = self.on_miss, None
            on_miss()
        return found

    @property
    def backlog_bytes(self) -> int:
        """Bytes queued and not yet on disk."""
        return self._store.backlog_bytes

    def note_failure(self, key: str, tell: Callable[[], FailedCall]) -> None:
        """Queue a call that failed."""
        self._store.note_failure(key, lambda: self._named(tell()))

    def _named(self, call: FailedCall) -> FailedCall:
        rows: Any = self._rows
        known = call.position is not None and isinstance(rows, NamedRows)
        return replace(
            call, run=self._run, asked=self._asked, label=rows.name_of(call.position) if known else call.label
        )
