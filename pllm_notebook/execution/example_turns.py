"""Examples as turns of the conversation, with answers in the requested form."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import from_json

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Example, Turn
from pllm_notebook.schema import FittedSchema

__all__ = ["ExampleTurns"]

_MOST_KEPT = 10_000
"""Maximum number of answers whose text is kept, since rows repeatedly use the same ones."""


class ExampleTurns:
    """Convert examples to conversation turns. Used from any thread.

    Args:
        label: The model's name, for errors.
        fitted: The type, adapted to the model; None for plain text.
    """

    def __init__(self, label: str, fitted: FittedSchema | None) -> None:
        self._label = label
        self._fitted = fitted
        self._texts: dict[str, str] = {}

    def turns(self, examples: Sequence[Example]) -> tuple[Turn, ...]:
        """Return a user turn and an assistant turn for each example. The answer has the requested form.

        Raises:
            UsageError: If this model cannot give an answer in the requested form. Nothing was sent.
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
