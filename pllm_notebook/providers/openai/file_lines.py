"""OpenAI's lines in request files and results files, in the format of its batch API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.protocols import Wire
from pllm_notebook.providers.provider import JsonLines, ResultRead

__all__ = ["LINES"]


def _write_request(line_id: str, wire: Wire, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_id": line_id, "method": "POST", "url": f"/v1{wire.path(model)}", "body": dict(body)}


def _write_result(answer: Mapping[str, Any] | Failure, request_id: str) -> dict[str, Any]:
    if isinstance(answer, Failure):
        error = {"code": answer.kind, "message": answer.message, "status_code": answer.status}
        return {"response": None, "error": error}
    return {"response": {"status_code": 200, "request_id": request_id, "body": answer}, "error": None}


def _read_result(line: Mapping[str, Any]) -> ResultRead | None:
    if "custom_id" not in line or isinstance(line.get("result"), dict):
        return None
    response = line.get("response") or {}
    return response.get("body"), _error(line.get("error"), response)


def _error(error: Any, response: Mapping[str, Any]) -> str:
    if isinstance(error, dict):
        return f"{error.get('code') or FailureKind.SERVER}: {error.get('message') or ''}"
    if response.get("status_code", 200) != 200:  # as in the provider's own batch results
        found = (response.get("body") or {}).get("error") or {}
        return f"{found.get('code') or response['status_code']}: {found.get('message') or ''}"
    return ""


LINES = JsonLines(
    id_field="custom_id",
    body_field="body",
    write_request=_write_request,
    write_result=_write_result,
    read_result=_read_result,
    url_field="url",
)
