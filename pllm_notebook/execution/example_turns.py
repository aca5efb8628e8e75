"""Examples as a model is shown them: turns of the conversation, with answers in the form that it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import from_json

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Example, Turn
from pllm_notebook.schema import FittedSchema

__all__ = ["ExampleTurns"]

_MOST_KEPT = 10_000
"""Answers whose text is remembered; rows are shown the same ones again and again."""


class ExampleTurns:
    """Write examples as a question's own turns. Used from any thread.

    Args:
        label: The model, for errors.
        fitted: The type as the model is asked for it, None for plain text.
    """

    def __init__(self, label: str, fitted: FittedSchema | None) -> None:
        self._label = label
        self._fitted = fitted
        self._texts: dict[str, str] = {}

    def turns(self, examples: Sequence[Example]) -> tuple[Turn, ...]:
        """Return a user's and an assistant's turn for each example: the answer has the form that is asked for.

        Raises:
            UsageError: For an answer that this model cannot give in the form that it is asked for. Nothing was sent.
        """
        return tuple(
            turn for one in examples for turn in (Turn("user", one.prompt), Turn("assistant", self._answer(one.answer)))
        )

    def _answer(self, answer: str) -> str:
        if self._fitted is None:
            return answer
        text = self._texts.get(answer)
        if text is None:
            written = self._fitted.written(from_json(answer))
            if written is None:
                raise UsageError(
                    f"The example's answer {answer:.200} cannot be written in the form that {self._label} is asked "
                    f"for. Leave this example out, or take another model. Nothing was sent."
                )
            if len(self._texts) >= _MOST_KEPT:
                self._texts.clear()
            text = self._texts[answer] = written
        return text
