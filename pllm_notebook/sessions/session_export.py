"""The calls of a program and their results, exported as JSON lines or a Parquet table."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic_core import to_jsonable_python

from pllm_notebook.exceptions import MissingPackageError, UsageError
from pllm_notebook.prompts import prompt_as_text
from pllm_notebook.redaction import redact
from pllm_notebook.sessions.agent import Agent
from pllm_notebook.sessions.error_response import ErrorResponse
from pllm_notebook.sessions.lazy_reply import LazyReply
from pllm_notebook.sessions.session_files import write_atomic
from pllm_notebook.sessions.session_store import Failed, Pending, Present, Retrieved
from pllm_notebook.tools import Called

__all__ = ["export_calls", "lines", "table"]

# Column to pandas dtype. Lists and parsed values are JSON text in a table, and plain JSON in JSON lines.
_DTYPES = {
    "key": "string",
    "agent": "string",
    "number": "int64",
    "model": "string",
    "identity": "string",
    "tag": "string",
    "salt": "string",
    "replicate": "int64",
    "instructions": "string",
    "prompt": "string",
    "documents": "string",
    "state": "string",
    "job": "string",
    "text": "string",
    "parsed": "string",
    "tool_calls": "string",
    "answered_by": "string",
    "when": "datetime64[us, UTC]",
    "input_tokens": "Int64",
    "output_tokens": "Int64",
    "cache_read_tokens": "Int64",
    "cache_write_tokens": "Int64",
    "reasoning_tokens": "Int64",
    "cost_usd": "Float64",
    "error": "string",
    "message": "string",
    "status": "Int64",
    "field": "string",
    "attempts": "Int64",
}
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1  # of orjson
_JSON = ("documents", "parsed", "tool_calls")


def export_calls(agents: Iterable[Agent], path: str | os.PathLike[str]) -> int:
    """Write one line for each call of the agents, with its reply, error and usage. Return the number of calls.

    Calls are listed by agent, in the order in which they were made. Calls without an answer are not waited for: `state`
    is "present", "pending", "failed" or "absent". API keys are redacted.

    Args:
        agents: The agents whose calls are written.
        path: Path that ends in .jsonl, for one JSON object per line, or in .parquet, for a table with lists and parsed
            values as JSON text. The file is replaced atomically.

    Raises:
        UsageError: For another extension.
        MissingPackageError: For a table without pyarrow.
        StoreError: If the file cannot be written; an existing file is left unchanged.
    """
    target = os.path.abspath(os.path.expanduser(os.fspath(path)))
    suffix = os.path.splitext(target)[1].lower()
    if suffix not in (".jsonl", ".parquet"):
        raise UsageError(
            f"export_all writes .jsonl and .parquet, not {suffix or 'a file without an extension'!r}: name the file "
            f"calls.jsonl, for example. Nothing was written, and nothing was sent."
        )
    if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingPackageError("Export to Parquet", "pyarrow", "parquet")
    rows = list(lines(agents))
    if suffix == ".jsonl":
        content = b"".join(_json(row) + b"\n" for row in rows)
    else:
        content = table(rows).to_parquet(None, engine="pyarrow", index=False)
    write_atomic(target, content)
    return len(rows)


def table(rows: list[dict[str, Any]]) -> Any:
    """Return lines as a dataframe of shape (n_calls, 29), whose dtypes do not depend on missing values."""
    import pandas as pd

    flat = [
        {name: _text(value) if name in _JSON and value is not None else value for name, value in row.items()}
        for row in rows
    ]
    return pd.DataFrame(flat, columns=list(_DTYPES)).astype(_DTYPES)


def lines(agents: Iterable[Agent]) -> Iterator[dict[str, Any]]:
    """Yield the line of each call as a dictionary."""
    for agent in agents:
        for reply in agent.history:
            yield _redacted(dict.fromkeys(_DTYPES) | _call_fields(reply) | _result_fields(_found(reply)))


def _found(reply: LazyReply) -> Retrieved:
    try:
        return reply.retrieve()
    except ErrorResponse as error:  # an invalid prompt
        return Failed(error, paid=False)


def _call_fields(reply: LazyReply) -> dict[str, Any]:
    call = reply.call
    return {
        "key": reply.key,
        "agent": call.agent,
        "number": call.number,
        "model": call.model,
        "identity": call.identity or None,
        "tag": call.tag or None,
        "salt": call.salt or None,
        "replicate": call.replicate,
        "instructions": call.instructions,
        "prompt": prompt_as_text(call.prompt),
        "documents": list(call.documents),
    }


def _result_fields(found: Retrieved) -> dict[str, Any]:
    """Return the fields that describe a call's result."""
    state: dict[str, Any] = {"state": type(found).__name__.lower()}
    if isinstance(found, Pending):
        return state | {"job": found.job.id}
    if isinstance(found, Failed):
        failure = found.error.failure
        return state | {
            "text": failure.raw or None,
            "cost_usd": failure.cost_usd,
            "error": str(failure.kind),
            "message": failure.message,
            "status": failure.status,
            "field": failure.field or None,
            "attempts": failure.attempts,
        }
    if isinstance(found, Present):
        answer = found.answer
        value = None if isinstance(answer.value, (str, Called)) else to_jsonable_python(answer.value, fallback=str)
        calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in answer.calls]
        return (
            state
            | ({} if answer.usage is None else asdict(answer.usage))
            | {
                "text": answer.text,
                "parsed": value,
                "tool_calls": calls or None,
                "answered_by": answer.model,
                "when": datetime.fromtimestamp(answer.at, UTC),
                "cost_usd": answer.cost_usd,
            }
        )
    return state


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        # A lone surrogate cannot be encoded, in either format.
        return redact(value).encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_redacted(name): _redacted(each) for name, each in value.items()}
    return [_redacted(each) for each in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    return _json(value).decode()


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits
        return orjson.dumps(_with_digits(value))


def _with_digits(value: Any) -> Any:
    """Return *value* with each integer of more than 64 bits as its digits, which orjson writes unchanged."""
    if isinstance(value, int) and not _MIN_INTEGER <= value <= _MAX_INTEGER:
        return orjson.Fragment(str(value))
    if isinstance(value, Mapping):
        return {name: _with_digits(each) for name, each in value.items()}
    return [_with_digits(each) for each in value] if isinstance(value, list) else value
