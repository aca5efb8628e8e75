"""Messages in the format of any provider: read into turns, and written back."""

from pllm_notebook.messages.from_messages import dialogue_from_messages
from pllm_notebook.messages.to_messages import write_content, write_messages

__all__ = ["dialogue_from_messages", "write_content", "write_messages"]
