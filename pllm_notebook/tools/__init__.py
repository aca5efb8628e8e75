"""Tools that models may call: their definitions, and the validation of calls.

Nothing here sends or stores anything. The caller runs a tool's function.
"""

from __future__ import annotations

from pllm_notebook.messages_types import ToolCallOutput
from pllm_notebook.tools.called_tools import Called, CalledTool, plain_json
from pllm_notebook.tools.structured_tool import StructuredTool
from pllm_notebook.tools.toolbox import ReadCall, Toolbox, unvalidated_call

__all__ = [
    "Called",
    "CalledTool",
    "ReadCall",
    "StructuredTool",
    "ToolCallOutput",
    "Toolbox",
    "plain_json",
    "unvalidated_call",
]
