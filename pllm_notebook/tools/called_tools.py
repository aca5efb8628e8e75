"""What a model's tool calls become, and what goes back to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pllm_notebook.cell_text import as_json_value

__all__ = ["Called", "CalledTool", "plain_json"]


@dataclass(frozen=True)
class CalledTool:
    """One call that a model made.

    Attributes:
        id: The provider's, which the result must bear; made from its place where the provider gives none.
        name: Of the tool.
        arguments: Validated: an instance of the model that the tool was made of, else a dict of validated values.
            Where nothing validates them, what the JSON says; the text itself where it is no JSON.
        text: The arguments as the model wrote them, JSON.
    """

    id: str
    name: str
    arguments: Any
    text: str

    @property
    def call_id(self) -> str:
        """`id` by its other name."""
        return self.id

    @property
    def args(self) -> Any:
        """The arguments as plain data: a dict, whatever the tool was made of."""
        return plain_json(self.arguments)


@dataclass(frozen=True)
class Called:
    """What a model answered that was given tools.

    Attributes:
        text: Its words beside the calls, or in place of them; "" for none.
        calls: In the order it made them; empty where it answered in words alone.
    """

    text: str
    calls: tuple[CalledTool, ...]


def plain_json(value: Any) -> Any:
    """Return *value* as JSON can hold it: models and dataclasses as objects, at any depth.

    Beside `cell_text.as_data`, whose words for a row's cells are part of what answers are kept by.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain_json(item) for name, item in value.items()}
    return [plain_json(item) for item in value] if isinstance(value, (list, tuple)) else as_json_value(value)
