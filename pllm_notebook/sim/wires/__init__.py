"""The providers' wire formats, one file per endpoint, with their paths."""

from __future__ import annotations

from pllm_notebook.sim.wire_types import SimWire
from pllm_notebook.sim.wires.anthropic_messages import AnthropicMessages
from pllm_notebook.sim.wires.google_generate import GoogleGenerate
from pllm_notebook.sim.wires.named_decisions import GoogleDecisions, SystemOneDecisions
from pllm_notebook.sim.wires.openai_chat import OpenAIChat
from pllm_notebook.sim.wires.openai_decisions import OpenAIDecisions
from pllm_notebook.sim.wires.openai_responses import OpenAIResponses
from pllm_notebook.sim.wires.sglang_decisions import SGLangEndpoint

__all__ = ["find"]

_MOUNTS: dict[str, SimWire] = {
    "/openai/v1/chat/completions": OpenAIChat("openai"),
    "/openai/v1/responses": OpenAIResponses(),
    "/openai/v1/decisions": OpenAIDecisions("openai"),
    "/compatible/v1/decisions": OpenAIDecisions("compatible"),
    "/compatible/v1/chat/completions": OpenAIChat("compatible"),
    "/systemone/v1/systemone": SystemOneDecisions(),
    "/systemone/v1/chat/completions": OpenAIChat("compatible"),
    "/sglang/v1/decisions": SGLangEndpoint(),
    "/sglang/v1/chat/completions": OpenAIChat("compatible"),
    "/google/v1beta/decisions": GoogleDecisions(),
    "/anthropic/v1/messages": AnthropicMessages(),
}
_GOOGLE = GoogleGenerate()
_GOOGLE_PATHS = ("/google/v1/models/", "/google/v1beta/models/")


def find(path: str) -> tuple[SimWire, str] | None:
    """Return the wire for *path*, and the model in the path, "" if not in it."""
    wire = _MOUNTS.get(path)
    if wire is not None:
        return wire, ""
    if path.startswith(_GOOGLE_PATHS) and path.endswith(":generateContent"):
        return _GOOGLE, path.split("/models/", 1)[1].rsplit(":", 1)[0]
    return None
