"""Chat Completions for models in this process: text only."""

from __future__ import annotations

from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Request
from pllm_notebook.providers.openai.chat import Chat

__all__ = ["LocalChat"]


class LocalChat(Chat):
    """Chat Completions without tools and media."""

    def __init__(self) -> None:
        super().__init__("max_tokens", strict=False)

    def encode(self, request: Request) -> dict[str, Any]:
        # The chat template would guess calls from text; files need a projector beside the weights.
        if request.tools or any(turn.calls or turn.results for turn in request.turns):
            raise _textual("calls no tools")
        if any(turn.media for turn in request.turns):
            raise _textual("sees no images and no documents")
        return super().encode(request)


def _textual(what: str) -> UsageError:
    return UsageError(
        f"A local model reads and writes text: it {what}. Ask a provider's model, or a server of your own "
        f"(pllm.configure(servers=…)). Nothing was sent."
    )
