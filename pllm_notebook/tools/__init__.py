"""Tools that models may call: what they are, and what becomes of the calls.

Nothing here sends or stores anything; running a tool's function is left to whoever asks for it.
"""

from __future__ import annotations

from pllm_notebook.conversation import ToolCallOutput
from pllm_notebook.tools.calls import Called, CalledTool
from pllm_notebook.tools.plain import plain_json
from pllm_notebook.tools.structured import StructuredTool
from pllm_notebook.tools.toolbox import ReadCall, Toolbox, as_written

__all__ = [
    "Called",
    "CalledTool",
    "ReadCall",
    "StructuredTool",
    "ToolCallOutput",
    "Toolbox",
    "as_written",
    "plain_json",
]
