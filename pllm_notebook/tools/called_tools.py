"""The tool calls of a model, and the values sent back to it."""

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
    """One tool call of a model.

    Attributes:
        id: The provider's id, which the result must repeat. Derived from its position if the provider has none.
        name: Name of the tool.
        arguments: The validated arguments: an instance of the tool's model, or otherwise a dict of validated values.
            Without validation, the parsed JSON, or the text itself if it is not JSON.
        text: The arguments as the model wrote them, as JSON text.
    """

    id: str
    name: str
    arguments: Any
    text: str

    @property
    def call_id(self) -> str:
        """Alias of `id`."""
        return self.id

    @property
    def args(self) -> Any:
        """The arguments as plain JSON data. A dict if they were validated."""
        return plain_json(self.arguments)


@dataclass(frozen=True)
class Called:
    """The answer of a model that was given tools.

    Attributes:
        text: The text beside or instead of the calls. "" for none.
        calls: The calls, in order. Empty if the model answered only with text.
    """

    text: str
    calls: tuple[CalledTool, ...]


def plain_json(value: Any) -> Any:
    """Return *value* as JSON data, with models and dataclasses as objects at any depth.

    This is not `cell_text.as_data`, because the output of that function for a row's cells is part of cache keys.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain_json(item) for name, item in value.items()}
    return [plain_json(item) for item in value] if isinstance(value, (list, tuple)) else as_json_value(value)
