"""The answer of a model: the base class of lazy replies, and a plain text in that form."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import orjson

from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.messages_types import Turn
from pllm_notebook.schema import extract_json
from pllm_notebook.tools import CalledTool

__all__ = ["LLMResponse"]


class LLMResponse:
    """The answer of a model: a lazy one from `ask_llm`, or a text from the program itself.

        LLMResponse("lion").resolve()                            # 'lion'
        agent.ask_llm("Name an animal.", LLMResponse("lion"), "Another one.")    # an assistant turn

    Args:
        value: The text.
    """

    def __init__(self, value: str = "") -> None:
        self._text = value

    def __repr__(self) -> str:
        shown = self._text if len(self._text) <= 50 else f"{self._text[:47]}..."
        return f"{type(self).__name__}({shown!r})"

    def __str__(self) -> str:
        return self.resolve()

    @property
    def failed(self) -> bool:
        """Whether the call has failed. Waits for it to end."""
        return self.error is not None

    @property
    def error(self) -> PllmError | None:
        """The reason why there is no answer, None if there is one. Waits for the call to end."""
        return None

    def resolve(self) -> str:
        """Wait, and return the answer's text.

        Raises:
            ErrorResponse: If the call has failed.
            KeyboardInterrupt: After an interrupt, which stops everything that the session has in flight.
        """
        return self._text

    def resolve_json(self) -> Any:
        """Wait, and return the JSON value in the answer's text, which may be inside prose or a code block.

        Raises:
            ErrorResponse: If the call has failed.
            UsageError: If there is no JSON in the text.
        """
        text = self.resolve()
        for candidate in (text, extract_json(text)):
            if candidate is not None:
                try:
                    return orjson.loads(candidate)
                except ValueError:
                    continue
        raise UsageError(
            f"There is no JSON in the answer, which begins {text[:80]!r}. Ask for JSON, or pass response_format=."
        )

    def resolve_function_calls(self) -> list[CalledTool]:
        """Wait, and return the tool calls that the model made; an empty list for none, or without tools.

        Raises:
            ErrorResponse: If the call has failed.
        """
        return []

    def to_assistant_message(self) -> Turn:
        """Wait, and return the answer as a turn for a further call.

        Raises:
            ErrorResponse: If the call has failed.
        """
        return Turn("assistant", self.resolve())

    @property
    def final_answer(self) -> str:
        """The result of `resolve`."""
        return self.resolve()

    @property
    def final_json(self) -> Any:
        """The result of `resolve_json`, None if there is no JSON in the text."""
        try:
            return self.resolve_json()
        except UsageError:
            return None

    @property
    def function_calls(self) -> list[CalledTool]:
        """The result of `resolve_function_calls`."""
        return self.resolve_function_calls()

    def __await__(self) -> Generator[Any, None, str]:
        return self._wait_here().__await__()

    async def _wait_here(self) -> str:
        return self.resolve()
