"""Values of a type as a model would answer them: what a person gives as right, checked and written in full."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_json, to_jsonable_python

from pllm_notebook.schema.fitted_schema import Parsed
from pllm_notebook.schema.output import OutputType
from pllm_notebook.schema.provider_support import PLAIN

__all__ = ["PlainAnswers"]


class PlainAnswers:
    """Write values of a type as JSON data in the type's own form.

    Args:
        output: The type.
    """

    def __init__(self, output: OutputType) -> None:
        self._fitted = output.fit(PLAIN)
        self._adapter: TypeAdapter[Any] = TypeAdapter(output.kind)

    def of(self, given: Any, context: Any = None) -> Any:
        """Return a value as a model would answer it: every field, in the order of the schema.

        Args:
            given: The value, or what can be validated as one: for a type with fields a mapping by their JSON names.
            context: What validators find in `info.context`.

        Returns:
            Decoded JSON; an `Invalid` where it is no value of the type.
        """
        said = to_jsonable_python(given, by_alias=True, inf_nan_mode="constants", serialize_unknown=True)
        parsed = self._read(said, context)
        if parsed.failure is not None:
            return parsed.failure
        full = self._adapter.dump_python(parsed.value, mode="json", by_alias=True, warnings=False)
        # A serializer of the type's own may write what the type does not read.
        again = self._read(full, context)
        return full if again.failure is None and again.value == parsed.value else said

    def _read(self, value: Any, context: Any) -> Parsed:
        content = {"value": value} if self._fitted.wrapped else value
        return self._fitted.parse(to_json(content, inf_nan_mode="constants"), context)
