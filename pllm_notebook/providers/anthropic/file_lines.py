"""Anthropic's lines in request files and results files, in the format of its batch API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.failures import Failure
from pllm_notebook.protocols import Wire
from pllm_notebook.providers.provider import JsonLines, ResultRead

__all__ = ["LINES"]


def _write_request(line_id: str, wire: Wire, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_id": line_id, "params": dict(body)}


def _write_result(answer: Mapping[str, Any] | Failure, request_id: str) -> dict[str, Any]:
    if isinstance(answer, Failure):
        error = {"type": "error", "error": {"type": answer.kind, "message": answer.message}}
        return {"result": {"type": "errored", "error": error}}
    return {"result": {"type": "succeeded", "message": answer}}


def _read_result(line: Mapping[str, Any]) -> ResultRead | None:
    result = line.get("result")
    return (result.get("message"), _error(result)) if isinstance(result, dict) else None


def _error(result: Mapping[str, Any]) -> str:
    if result.get("type") == "succeeded":
        return ""
    error = result.get("error") or {}
    error = error.get("error") or error
    return f"{error.get('type') or result.get('type')}: {error.get('message') or ''}"


LINES = JsonLines(
    id_field="custom_id",
    body_field="params",
    write_request=_write_request,
    write_result=_write_result,
    read_result=_read_result,
)
