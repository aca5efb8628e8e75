"""The completion types in which requests are answered, as in OpenAI's client.

Imported with the first completion, since they subclass the SDK's classes. Their names and constructors are those that
other packages use.
"""

from __future__ import annotations

from typing import Any

from openai.types.chat import ParsedChatCompletion, ParsedChatCompletionMessage, ParsedChoice

__all__ = ["Choice", "ParallelCompletion", "ParsedMessage"]


class ParsedMessage(ParsedChatCompletionMessage[Any]):
    """The message of a completion. Build one with `ParsedMessage(parsed=answer)`."""

    def __init__(self, **fields: Any) -> None:
        usual: dict[str, Any] = {"role": "assistant", "content": None}
        super().__init__(**usual | fields)


class Choice(ParsedChoice[Any]):
    """The only choice of a completion. Build one with `Choice(answer)`."""

    message: ParsedMessage

    def __init__(self, parsed_content: Any = None, **fields: Any) -> None:
        made: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if parsed_content is not None:
            made["message"] = ParsedMessage(parsed=parsed_content)
        super().__init__(**made | fields)


class ParallelCompletion(ParsedChatCompletion[Any]):
    """The result of `completions.parse`. For your own tests, build one with `ParallelCompletion(answer)`."""

    choices: list[Choice]  # type: ignore[assignment]

    def __init__(self, parsed_content: Any = None, **fields: Any) -> None:
        made: dict[str, Any] = {"id": "pllm", "created": 0, "model": "", "object": "chat.completion"}
        if parsed_content is not None:
            made["choices"] = [Choice(parsed_content)]
        super().__init__(**made | fields)
