"""Samples that write their reasoning before their answer.

Reasoning written before an answer can improve it (Wei et al., "Chain-of-Thought Prompting Elicits Reasoning in Large
Language Models", 2022); written after it, it can only justify it. The reasoning exists only in the samples' format: the
judge sees it, agreement is counted without it, and the caller never sees it.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, Field, RootModel, create_model

from pllm_notebook.schema import OutputType

__all__ = ["Reasoned", "reasoned"]


class HasReasoning(BaseModel):
    """What is added to an answer's format."""

    reasoning: str = Field(description="The reasoning that leads to the answer, step by step, before it is given.")


class Reasoned:
    """The format of a sample that reasons before it answers.

    Args:
        output: The caller's type, None for plain text.

    Attributes:
        output: The type of a sample: for a Pydantic model, its fields after one named `reasoning`; for any other type,
            `{"reasoning": …, "answer": …}`. It is the caller's own type if that already has a field of that name.
    """

    def __init__(self, output: OutputType | None) -> None:
        kind: Any = str if output is None else output.kind
        self._model: type[BaseModel] | None = None
        self._own = False
        if inspect.isclass(kind) and issubclass(kind, BaseModel) and not issubclass(kind, RootModel):
            names = {name for field in output.fields or () for name in (field.name, field.alias)} if output else set()
            if "reasoning" in names:
                assert output is not None
                self._own, self.output = True, output
                return
            self._model = kind
            # Pydantic puts the fields of the later base first, and keeps the validators of both.
            made = create_model(kind.__name__, __base__=(kind, HasReasoning), __doc__=kind.__doc__)
        else:
            made = create_model("Answer", __base__=HasReasoning, answer=(kind, ...))
        self.output = OutputType(made)

    def answer(self, value: Any) -> Any:
        """Return a sample's answer in the caller's type, without the reasoning and without validating it again."""
        if self._own:
            return value
        if self._model is None:
            return value.answer
        # Copied through the model's pickle state: constructing it again would run its validators a second time, on
        # values that they have already changed.
        state = value.__getstate__()
        state["__dict__"] = {name: held for name, held in state["__dict__"].items() if name != "reasoning"}
        state["__pydantic_fields_set__"] = state["__pydantic_fields_set__"] - {"reasoning"}
        bare = self._model.__new__(self._model)
        bare.__setstate__(state)
        return bare

    def reasoning(self, value: Any) -> str | None:
        """Return a sample's reasoning, or None if the reasoning is a field of the caller's own type."""
        return None if self._own else value.reasoning


@lru_cache(maxsize=256)
def reasoned(output: OutputType | None) -> Reasoned:
    """Build the format, once for each type."""
    return Reasoned(output)
