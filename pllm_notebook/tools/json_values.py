"""Typed values as plain JSON: arguments that were validated, and what functions give."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from pllm_notebook.cell_text import as_json_value

__all__ = ["plain_json"]


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
