"""The answer of a model as a program holds it, and one that is a value already."""

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
    """The answer of a model: what `ask_llm` returns, lazy there, or a text that a program has itself.

        LLMResponse("lion").resolve()                            # 'lion'
        agent.ask_llm("Name an animal.", LLMResponse("lion"), "Another one.")    # as what the assistant said

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
        """Whether there is no answer, and will be none; waits until that is known."""
        return self.error is not None

    @property
    def error(self) -> PllmError | None:
        """Why there is no answer, None where there is one; waits until that is known."""
        return None

    def resolve(self) -> str:
        """Wait, and return the answer's text.

        Raises:
            ErrorResponse: Where it has failed.
            KeyboardInterrupt: After an interrupt, which stops all that the session has on its way.
        """
        return self._text

    def resolve_json(self) -> Any:
        """Wait, and return the JSON value in the answer's text, which may stand among words or in a block of code.

        Raises:
            ErrorResponse: Where it has failed.
            UsageError: Where there is no JSON in the text.
        """
        text = self.resolve()
        for candidate in (text, extract_json(text)):
            if candidate is not None:
                try:
                    return orjson.loads(candidate)
                except ValueError:
                    continue
        raise UsageError(
            f"There is no JSON in the answer, which begins {text[:80]!r}. Ask for it, or give response_format=."
        )

    def resolve_function_calls(self) -> list[CalledTool]:
        """Wait, and return the calls of tools that the model made; an empty list where it made or was offered none.

        Raises:
            ErrorResponse: Where it has failed.
        """
        return []

    def to_assistant_message(self) -> Turn:
        """Wait, and return the answer as a turn that a further call may begin with.

        Raises:
            ErrorResponse: Where it has failed.
        """
        return Turn("assistant", self.resolve())

    @property
    def final_answer(self) -> str:
        """What `resolve` returns."""
        return self.resolve()

    @property
    def final_json(self) -> Any:
        """What `resolve_json` returns, None where there is no JSON in the text."""
        try:
            return self.resolve_json()
        except UsageError:
            return None

    @property
    def function_calls(self) -> list[CalledTool]:
        """What `resolve_function_calls` returns."""
        return self.resolve_function_calls()

    def __await__(self) -> Generator[Any, None, str]:
        return self._wait_here().__await__()

    async def _wait_here(self) -> str:
        return self.resolve()
