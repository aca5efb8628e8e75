"""Calls that fail for good: which are stored, with what, and which are not sent again unless a caller asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import orjson

from pllm_notebook.exceptions import sentence
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.rejections import is_about_row
from pllm_notebook.execution.row_source import DerivedRows
from pllm_notebook.failures import FailedCall, Failure, FailureKind, ways_to_send_again
from pllm_notebook.messages_types import Dialogue, Prompt
from pllm_notebook.prompts import prompt_as_text
from pllm_notebook.protocols import Store

__all__ = ["FailureOrigin", "FailureRecorder", "earlier_rejections", "full_message"]

# What says that this very request can never succeed. Another status of the same kind (a proxy's 405, a 410) is as
# often about the server; sending again shows which.
_FINAL_STATUS = frozenset({400, 413, 422})


class FailureOrigin(NamedTuple):
    """What names a failure to a person.

    Attributes:
        run: Id of the run.
        asked: What it asks, in a few words.
        rows: The caller's own, whose names are shown where they have some.
    """

    run: str
    asked: str
    rows: object


class FailureRecorder:
    """Keep one run's failed calls in the store.

    Args:
        ask: The question.
        store: None to keep nothing.
        prompt: Makes one row's prompt.
        rows: Whose prompts they are.

    Attributes:
        origin: The run that they are kept under, None for one without a name.
    """

    def __init__(self, ask: CallSpec, store: Store | None, prompt: Callable[[int], Prompt], rows: object) -> None:
        self._ask = ask
        self._store = store
        self.origin: FailureOrigin | None = None
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
        prompt, position = self._prompt(row), self._position_of(row)
        body = self._ask.whole(prompt) if dialogue is None else self._ask.encoder.body(dialogue)
        run, asked, rows = self.origin or ("", "", None)
        return FailedCall(
            key=key,
            failure=failure,
            model=self._ask.target.label,
            at=at,
            body=orjson.dumps(body).decode(),
            prompt=prompt_as_text(prompt),
            position=position,
            label=rows.name_of(position) if position is not None and isinstance(rows, NamedRows) else "",
            run=run,
            asked=asked,
            about_row=about_row,
        )

    def _position_of(self, row: int) -> int | None:
        if self._derived is not None:
            return self._derived.position_of(row)
        return row if self._positions else None


def earlier_rejections(ask: CallSpec, store: Store | None, keys: Sequence[str]) -> dict[str, Failure]:
    """Return the failures of calls that a provider has rejected before and that are not to be sent again unasked.

    With `cache="refresh"` there are none: everything is sent.
    """
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
        f"{ways_to_send_again(str(call.failure.kind))} sends it."
    )
    return replace(call.failure, message=sentence(call.failure.message) + advice)


def full_message(failure: Failure) -> str:
    """Return a failure's message, with what the provider's own words leave out: the rejected field, what to do."""
    message, field = failure.message, failure.field
    if is_about_row(failure):
        return (
            f"{sentence(message)} (The row is too long for the model: df.llm.chunks cuts it, df.llm.reduce combines.)"
        )
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
