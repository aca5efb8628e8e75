"""The shapes of OpenAI's completions that a request is answered with.

Loaded with the first completion: they are the SDK's own classes, with names and constructors that other packages
have for them.
"""

from __future__ import annotations

from typing import Any

from openai.types.chat import ParsedChatCompletion, ParsedChatCompletionMessage, ParsedChoice

__all__ = ["Choice", "ParallelCompletion", "ParsedMessage"]


class ParsedMessage(ParsedChatCompletionMessage[Any]):
    """The message of a completion; `ParsedMessage(parsed=answer)` makes one."""

    def __init__(self, **fields: Any) -> None:
        usual: dict[str, Any] = {"role": "assistant", "content": None}
        super().__init__(**usual | fields)


class Choice(ParsedChoice[Any]):
    """The one choice of a completion; `Choice(answer)` makes one."""

    message: ParsedMessage

    def __init__(self, parsed_content: Any = None, **fields: Any) -> None:
        made: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if parsed_content is not None:
            made["message"] = ParsedMessage(parsed=parsed_content)
        super().__init__(**made | fields)


class ParallelCompletion(ParsedChatCompletion[Any]):
    """What `completions.parse` returns; `ParallelCompletion(answer)` makes one, for tests of the caller's own."""

    choices: list[Choice]  # type: ignore[assignment]

    def __init__(self, parsed_content: Any = None, **fields: Any) -> None:
        made: dict[str, Any] = {"id": "pllm", "created": 0, "model": "", "object": "chat.completion"}
        if parsed_content is not None:
            made["choices"] = [Choice(parsed_content)]
        super().__init__(**made | fields)
