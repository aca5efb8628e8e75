"""Writes a user's correct answers as a model would: validated, with every field."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_json, to_jsonable_python

from pllm_notebook.schema.fitted_schema import Parsed
from pllm_notebook.schema.output import OutputType
from pllm_notebook.schema.provider_support import PLAIN

__all__ = ["PlainAnswers"]


class PlainAnswers:
    """Converts values of a type to JSON data in the type's own form.

    Args:
        output: The type.
    """

    def __init__(self, output: OutputType) -> None:
        self._fitted = output.fit(PLAIN)
        self._adapter: TypeAdapter[Any] = TypeAdapter(output.kind)

    def of(self, given: Any, context: Any = None) -> Any:
        """Return a value as a model would write it: every field, in the order of the schema.

        Args:
            given: The value, or data that can be validated as one. For a type with fields, a mapping by JSON names.
            context: Passed to validators as `info.context`.

        Returns:
            Decoded JSON; an `Invalid` if it is not a value of the type.
        """
        said = to_jsonable_python(given, by_alias=True, inf_nan_mode="constants", serialize_unknown=True)
        parsed = self._read(said, context)
        if parsed.failure is not None:
            return parsed.failure
        full = self._adapter.dump_python(parsed.value, mode="json", by_alias=True, warnings=False)
        # The type's own serializer may write a form that the type cannot read.
        again = self._read(full, context)
        return full if again.failure is None and again.value == parsed.value else said

    def _read(self, value: Any, context: Any) -> Parsed:
        content = {"value": value} if self._fitted.wrapped else value
        return self._fitted.parse(to_json(content, inf_nan_mode="constants"), context)
