"""Google's lines in request files and results files, in the format of its batch API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.failures import Failure
from pllm_notebook.protocols import Wire
from pllm_notebook.providers.provider import JsonLines, ResultRead

__all__ = ["LINES"]


def _write_request(line_id: str, wire: Wire, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    # The body itself names no model.
    return {"key": line_id, "request": {"model": f"models/{model}", **body}}


def _write_result(answer: Mapping[str, Any] | Failure, request_id: str) -> dict[str, Any]:
    if isinstance(answer, Failure):
        return {"error": {"code": answer.status, "message": answer.message, "status": answer.kind}}
    return {"response": answer}


def _read_result(line: Mapping[str, Any]) -> ResultRead | None:
    if "key" not in line or "custom_id" in line or isinstance(line.get("result"), dict):
        return None
    error = line.get("error")
    message = f"{error.get('status') or error.get('code')}: {error.get('message')}" if isinstance(error, dict) else ""
    return line.get("response"), message


LINES = JsonLines(
    id_field="key",
    body_field="request",
    write_request=_write_request,
    write_result=_write_result,
    read_result=_read_result,
)
