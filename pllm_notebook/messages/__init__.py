"""Messages in any provider's format: converted to turns and back."""

from pllm_notebook.messages.from_messages import dialogue_from_messages
from pllm_notebook.messages.to_messages import write_content, write_messages

__all__ = ["dialogue_from_messages", "write_content", "write_messages"]
