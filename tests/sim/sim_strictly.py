"""Whether a body is exactly what an SDK's response type says: nothing missing, nothing more."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter


def check(kind: type[BaseModel], body: Any) -> None:
    """Validate *body* by pydantic's rules (the SDKs construct without them), and look for unknown keys."""
    model = TypeAdapter(kind).validate_python(body)
    extra = list(_extra(model, kind.__name__))
    assert not extra, extra


def _extra(value: Any, path: str):
    if isinstance(value, BaseModel):
        for name in value.model_extra or ():
            yield f"{path}.{name}"
        for name in type(value).model_fields:
            yield from _extra(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _extra(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _extra(item, f"{path}[{name!r}]")
