"""What a program asked and what came of it, as a file for whoever looks at it elsewhere."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from pydantic_core import to_jsonable_python

from pllm_notebook.exceptions import MissingPackageError, UsageError
from pllm_notebook.prompts import prompt_as_text
from pllm_notebook.redaction import redact
from pllm_notebook.sessions.error_response import ErrorResponse
from pllm_notebook.sessions.session_files import write_atomic
from pllm_notebook.sessions.session_store import Failed, Pending, Present, Retrieved
from pllm_notebook.tools import Called

if TYPE_CHECKING:
    from pllm_notebook.sessions.lazy_reply import LazyReply
    from pllm_notebook.sessions.session import Session

__all__ = ["export_all", "lines", "table"]

# Column to pandas dtype. Lists and values of any type are JSON in a table, and themselves in JSON lines.
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
_JSON = ("documents", "parsed", "tool_calls")


def export_all(session: Session, path: str | os.PathLike[str]) -> int:
    """Write down every call that this run of the program asked, with its reply, its error and its usage.

    One line a call, agent by agent, in the order they asked. Nothing is waited for: `state` tells what there is of
    each ("present", "pending", "failed", "absent"). Keys of providers are taken out of every text.

    Args:
        session: The session.
        path: Ends in .jsonl for a JSON object a line, or in .parquet for a table, where lists and parsed values are
            JSON. The file is exchanged whole.

    Returns:
        How many calls it holds.

    Raises:
        UsageError: For another ending.
        MissingPackageError: For a table without pyarrow.
        StoreError: If the file cannot be written; what was there before is there still.
    """
    target = os.path.abspath(os.path.expanduser(os.fspath(path)))
    suffix = os.path.splitext(target)[1].lower()
    if suffix not in (".jsonl", ".parquet"):
        raise UsageError(
            f"export_all writes .jsonl and .parquet, not {suffix or 'a file without an ending'!r}: name the file "
            f"calls.jsonl, for example. Nothing was written, and nothing was sent."
        )
    if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingPackageError("Export to Parquet", "pyarrow", "parquet")
    told = list(lines(session))
    if suffix == ".jsonl":
        content = b"".join(orjson.dumps(line) + b"\n" for line in told)
    else:
        content = table(told).to_parquet(None, engine="pyarrow", index=False)
    write_atomic(target, content)
    return len(told)


def table(told: list[dict[str, Any]]) -> Any:
    """Return lines as a frame: shape (n_calls, 29), dtypes that do not depend on what is missing."""
    import pandas as pd

    flat = [
        {name: _text(value) if name in _JSON and value is not None else value for name, value in line.items()}
        for line in told
    ]
    return pd.DataFrame(flat, columns=list(_DTYPES)).astype(_DTYPES)


def lines(session: Session) -> Iterator[dict[str, Any]]:
    """Return what is known of each call, as the file has it."""
    for agent in session.agents.values():
        for reply in agent.history:
            yield _clean(dict.fromkeys(_DTYPES) | _call_fields(reply) | _result_fields(_found(reply)))


def _found(reply: LazyReply) -> Retrieved:
    try:
        return reply.retrieve()
    except ErrorResponse as error:  # a prompt that is none
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
    """Return what there is of a call."""
    told: dict[str, Any] = {"state": type(found).__name__.lower()}
    if isinstance(found, Pending):
        return told | {"job": found.job.id}
    if isinstance(found, Failed):
        failure = found.error.failure
        return told | {
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
            told
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
    return told


def _clean(value: Any) -> Any:
    """Take keys of providers out of every text."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: _clean(each) for name, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
