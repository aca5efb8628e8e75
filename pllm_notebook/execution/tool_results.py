"""Tool results as the store keeps them: next to the model's replies, so that a chain of both can be replayed."""

from __future__ import annotations

import time
from typing import Any

import orjson

from pllm_notebook.execution.cache_key import key_of
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.follow_ups import UnreadReply
from pllm_notebook.failures import FailureKind
from pllm_notebook.messages_types import ToolCallOutput
from pllm_notebook.redaction import redact
from pllm_notebook.schema import Invalid, repair_lines
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.tools import CalledTool, ReadCall
from pllm_notebook.types import Finish

__all__ = ["invalid_call_result", "result_key", "result_of", "run_tool", "stored_result", "timeout_result"]

# Shown of an exception's message, which may be a traceback or a whole web page.
_MAX_ERROR_CHARS = 2_000
# Characters of a result that its metadata repeats, for `explain`.
_SHOWN = 500


def result_key(reply: UnreadReply, at: int, call: CalledTool) -> str:
    """Return the key of a tool's result: a hash of the tool's name, its arguments as written, and the model's call.

    Args:
        reply: The reply that calls the tool.
        at: Position among the reply's calls; the same call made twice runs twice.
        call: The tool call.
    """
    body = {"arguments": call.text, "call": reply.turn_key or reply.key, "at": at}
    return key_of("tool", call.name, body, "")


def run_tool(read: ReadCall) -> StoredReply:
    """Run the function of a tool call. Blocks; called in one of the threads for user code.

    Returns:
        The result as the store keeps it. An exception is a result too: its type and message, without API keys.
    """
    assert read.tool is not None
    began = time.monotonic()
    try:
        content, failed = read.tool.run(read.call.arguments), False
    except BaseException as error:  # SystemExit must end neither the thread nor the loop that waits for it
        content, failed = redact(f"{type(error).__name__}: {error}")[:_MAX_ERROR_CHARS], True
        content = content.encode("utf-8", "replace").decode()
    return stored_result(read.call, content, failed=failed, latency_s=time.monotonic() - began)


def timeout_result(read: ReadCall, timeout_s: float) -> StoredReply:
    """Return the result that the model sees for a call that did not return in time."""
    message = f"TimeoutError: the tool did not return within tool_timeout_s={timeout_s:g} s"
    return stored_result(read.call, message, failed=True, latency_s=timeout_s)


def invalid_call_result(read: ReadCall, spec: CallSpec) -> StoredReply:
    """Return the result that the model sees for a call that is not run, since it, or another of the reply, is invalid.

    The text depends only on places, types and tool names: a library's wording must not change a key.
    """
    invalid = read.invalid
    if invalid is None:
        return stored_result(read.call, "This call fits. Make it again, beside the corrected ones.", failed=True)
    if read.tool is None:
        names = ", ".join(tool.name for tool in spec.toolbox.tools) if spec.toolbox is not None else ""
        return stored_result(read.call, f"There is no tool of this name. There are: {names}.", failed=True)
    return stored_result(read.call, _argument_errors(invalid), failed=True)


def stored_result(call: CalledTool, content: str, *, failed: bool, latency_s: float = 0.0) -> StoredReply:
    """Build the stored form of a tool result: like that of a reply, but without cost, usage or provider."""
    tool: dict[str, Any] = {"name": call.name, "arguments": call.text, "failed": failed}
    meta = {
        "usage": [0, 0, 0, 0, 0],
        "cost_usd": 0.0,
        "model": "",
        "asked": f"tool:{call.name}",
        "request_id": "",
        "detail": "",
        "latency_s": round(latency_s, 6),
        "attempts": 0,
        "created_at": time.time(),
        "tool": tool | {"content": content[:_SHOWN]},
    }
    text = content.encode("utf-8", "replace")
    return StoredReply(Finish.COMPLETE, text, 0, 0, orjson.dumps(meta), orjson.dumps(tool))


def result_of(read: ReadCall, entry: StoredReply) -> ToolCallOutput:
    """Return a tool result in the form that is sent to the model."""
    failed = "tool" in entry.metadata and entry.metadata["tool"]["failed"]
    return ToolCallOutput(read.call.id, read.call.name, entry.text.decode("utf-8", "replace"), failed)


def _argument_errors(invalid: Invalid) -> str:
    if invalid.kind is FailureKind.INVALID_JSON:
        return "The arguments are not valid JSON. Call the tool again, with corrected arguments."
    lines = "\n".join(f"- {line}" for line in repair_lines(invalid))
    return f"The arguments do not fit the schema:\n{lines}\nCall the tool again, with corrected arguments."
