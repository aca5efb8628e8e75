"""Calls that failed for good: which of them the store keeps, and with which data."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import orjson

from pllm_notebook.exceptions import sentence
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.rejections import is_about_row
from pllm_notebook.execution.row_source import DerivedRows
from pllm_notebook.failures import FailedCall, Failure, FailureKind
from pllm_notebook.messages_types import Dialogue, Prompt
from pllm_notebook.prompts import prompt_as_text
from pllm_notebook.protocols import Store

__all__ = ["FailureOrigin", "FailureRecorder", "full_message"]


class FailureOrigin(NamedTuple):
    """The run that a failure belongs to, as shown to the user.

    Attributes:
        run: Id of the run.
        asked: The run's question, in a few words.
        rows: The caller's rows, whose names are shown if they have any.
    """

    run: str
    asked: str
    rows: object


class FailureRecorder:
    """Keep one run's failed calls in the store.

    Args:
        spec: The spec of the calls.
        store: Keeps the failures; None to keep nothing.
        prompt: Builds one row's prompt.
        rows: The rows of the prompts.
        origin: The run that the failures are stored under, None for a run without a name.
    """

    def __init__(
        self,
        spec: CallSpec,
        store: Store | None,
        prompt: Callable[[int], Prompt],
        rows: object,
        origin: FailureOrigin | None,
    ) -> None:
        self._spec = spec
        self._store = store
        self._origin = origin
        self._prompt = prompt
        # A judge's rows are calls of an ensemble: their positions mean nothing to the user.
        self._positions = isinstance(rows, LabelledRows)
        self._derived = rows if isinstance(rows, DerivedRows) else None

    def note(
        self, key: str, row: int, failure: Failure, dialogue: Dialogue | None = None, *, about_row: bool = True
    ) -> None:
        """Store a failure, if it is of a kind that the failure log keeps. Returns at once.

        Args:
            key: The call's key.
            row: The row whose prompt was sent.
            failure: The failure.
            dialogue: The conversation of a further turn, None for the row's own call.
            about_row: Whether the row itself was rejected (see `FailedCall.about_row`).
        """
        if self._store is not None and failure.kind.facts.logged:
            self._store.note_failure(
                key, partial(self._failed_call, key, row, failure, dialogue, time.time(), about_row)
            )

    def _failed_call(
        self, key: str, row: int, failure: Failure, dialogue: Dialogue | None, at: float, about_row: bool
    ) -> FailedCall:
        """Build the failed call. Prompt and body are built again, in the store's thread, since they are not kept."""
        prompt, position = self._prompt(row), self._position_of(row)
        body = self._spec.whole(prompt) if dialogue is None else self._spec.encoder.body(dialogue)
        run, asked, rows = self._origin or ("", "", None)
        return FailedCall(
            key=key,
            failure=failure,
            model=self._spec.target.label,
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


def full_message(failure: Failure) -> str:
    """Return a failure's message, with what the provider's message leaves out: the rejected field, what to do."""
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
    """The caller's own rows (see `row_source.Rows`)."""

    label: str


@runtime_checkable
class NamedRows(Protocol):
    """Rows that have names, such as those in a frame's index."""

    def name_of(self, row: int) -> str:
        """Return the name of a row."""
