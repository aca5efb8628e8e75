"""Conversion of a failed call to a row of the table and back: a few columns and JSON, never a pickle."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from pllm_notebook.exceptions import StoreError
from pllm_notebook.failures import FailedCall, Failure, FailureKind
from pllm_notebook.redaction import redact

__all__ = ["COLUMNS", "DamagedFailure", "Fields", "NewerFailure", "bounded", "failed_call", "fields_of"]

COLUMNS = "key, kind, model, at, told"
MAX_TEXT_CHARS = 10_000
MAX_PROMPT_CHARS = 200
"""Characters that are kept of a message, reply or body, and of a prompt or other short text."""

Fields = tuple[str, str, str, float, bytes]
"""A row, in the order of `COLUMNS`."""

_TEXTS = ("message", "raw", "request_id", "field", "body", "prompt", "label", "run", "asked")


class NewerFailure(StoreError):
    """A later version of this package wrote the table."""


class DamagedFailure(sqlite3.DatabaseError):
    """A row has changed since it was written. This is damage of the file that SQLite does not detect."""

    def __str__(self) -> str:
        return "a row's checksum does not match"


def bounded(call: FailedCall) -> FailedCall:
    """Return *call* with its texts redacted and then shortened: a shortened API key would not be recognized."""
    failure = call.failure
    return replace(
        call,
        failure=replace(
            failure,
            message=_safe(failure.message),
            raw=_safe(failure.raw),
            field=_safe(failure.field, MAX_PROMPT_CHARS),
            request_id=_safe(failure.request_id, MAX_PROMPT_CHARS),
            retry_after_s=None,
        ),
        body=_safe(call.body),
        prompt=_safe(call.prompt, MAX_PROMPT_CHARS),
        label=_safe(call.label, MAX_PROMPT_CHARS),
        asked=_safe(call.asked, MAX_PROMPT_CHARS),
    )


def fields_of(call: FailedCall) -> Fields:
    """Return *call*, after `bounded`, as a row in the order of `COLUMNS`."""
    call = bounded(call)
    failure = call.failure
    facts = {
        "status": failure.status,
        "message": failure.message,
        "raw": failure.raw,
        "attempts": failure.attempts,
        "request_id": failure.request_id,
        "field": failure.field,
        "cost_usd": failure.cost_usd,
        "body": call.body,
        "prompt": call.prompt,
        "position": call.position,
        "label": call.label,
        "run": call.run,
        "asked": call.asked,
        "about_row": call.about_row,
    }
    row = call.key, str(failure.kind), call.model, call.at
    return *row, orjson.dumps(facts | {"crc32": _checksum(*row, orjson.dumps(facts))})


def failed_call(row: Sequence[object]) -> FailedCall | None:
    """Read a row; return None if this package did not write it, whatever it contains.

    Raises:
        DamagedFailure: If this package wrote the row, and it has changed since.
    """
    key, kind, model, at, facts = row
    try:
        if type(key) is not str or type(model) is not str or type(at) is not float or type(facts) is not bytes:
            return None
        known = FailureKind(str(kind))
        about = orjson.loads(facts)
        written = about.pop("crc32", None) if type(about) is dict else None  # earlier versions wrote none
        if written is not None and written != _checksum(key, str(kind), model, at, orjson.dumps(about)):
            raise DamagedFailure
        if type(about) is not dict or any(type(about[name]) is not str for name in _TEXTS):
            return None
        failure = Failure(
            kind=known,
            message=about["message"],
            status=_whole(about["status"]),
            raw=about["raw"],
            attempts=_whole(about["attempts"]) or 0,
            request_id=about["request_id"],
            field=about["field"],
            cost_usd=None if about["cost_usd"] is None else float(about["cost_usd"]),
        )
        return FailedCall(
            key=key,
            failure=failure,
            model=model,
            at=at,
            body=about["body"],
            prompt=about["prompt"],
            position=_whole(about["position"]),
            label=about["label"],
            run=about["run"],
            asked=about["asked"],
            about_row=about.get("about_row", True) is True,  # absent in rows of earlier versions
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _checksum(key: str, kind: str, model: str, at: float, facts: bytes) -> int:
    return zlib.crc32(facts, zlib.crc32(f"{key} {kind} {model} {at!r}".encode()))


def _whole(value: Any) -> int | None:
    if value is not None and type(value) is not int:
        raise TypeError("not a whole number")
    return value


def _safe(text: str, most: int = MAX_TEXT_CHARS) -> str:
    # Search only a little more than is kept: the rest is cut off, however long it is.
    text = redact(text[: 2 * most + 1000])
    text = text if len(text) <= most else text[:most] + "…"
    # JSON and SQLite do not accept half a surrogate pair.
    return text.encode("utf-8", "replace").decode()
