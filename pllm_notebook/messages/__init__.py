"""Messages as people write them, in the words of any provider: read into turns, and written back."""

from pllm_notebook.messages.reading import dialogue_of
from pllm_notebook.messages.writing import content_of, messages_of

__all__ = ["content_of", "dialogue_of", "messages_of"]
