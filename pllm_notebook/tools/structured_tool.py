"""One tool: its name, description, arguments, and function if it has one."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any, Self

import orjson
from pydantic import ConfigDict, PrivateAttr, TypeAdapter, field_validator, model_validator

from pllm_notebook import messages_types
from pllm_notebook.argument_models import ArgumentModel
from pllm_notebook.exceptions import UnsupportedSchemaError, UsageError
from pllm_notebook.schema import PLAIN, Dialect, Fit, FittedSchema, Invalid, OutputType, fit, kind_of
from pllm_notebook.tools.called_tools import plain_json
from pllm_notebook.tools.definitions import read_definition
from pllm_notebook.tools.functions import Function

__all__ = ["StructuredTool"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_OTHER_NAMES = {"schema_name": "name", "schema_description": "description", "strict_schema": "strict"}


class StructuredTool(ArgumentModel):
    """A tool that a model may call. Built by `StructuredTool.of`, or from its fields.

    A tool survives a JSON round-trip, except for the function or model that it was built from. A tool read from JSON
    can be offered to a model, and its schema validates the arguments, but it has no function to run. Two tools are
    equal if their fields are equal.

    Attributes:
        name: At most 64 letters, digits, `_` and `-`. Begins with a letter or `_`.
        description: Purpose of the tool, for the model. "" for none.
        json_schema: JSON schema of the arguments, which is that of an object.
        strict: Whether to ask the provider to guarantee the schema. A schema that it cannot guarantee is sent without
            the guarantee.
        instruction_string: Text before the schema if a prompt's instruction describes it (`use_schema_instruction`).
            None for the standard sentence.

    The fields may also be given as `schema_name`, `schema_description` and `strict_schema`. A tool built from its
    schema alone gets the schema's title as its name, or "generate_structured_output" if the title is not a valid name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    json_schema: dict[str, Any]
    strict: bool = True
    instruction_string: str | None = None

    _function: Function | None = PrivateAttr(None)
    _output: OutputType | None = PrivateAttr(None)
    # Built once: the type of the arguments with its adapter, and the tool for each dialect.
    _kind: tuple[Any, TypeAdapter[Any]] | None = PrivateAttr(None)
    _fitted: dict[Dialect, tuple[messages_types.Tool, FittedSchema]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _with_other_names(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        for other, name in _OTHER_NAMES.items():
            if other in fields and name in fields:
                raise UsageError(f"{other} and {name} of a tool are one field: give one of them. Nothing was sent.")
        fields = {_OTHER_NAMES.get(field, field): value for field, value in fields.items()}
        schema = fields.get("json_schema")
        if "name" not in fields and isinstance(schema, Mapping):
            title = schema.get("title")
            named = isinstance(title, str) and _NAME.fullmatch(title) is not None
            fields["name"] = title if named else "generate_structured_output"
        return fields

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return _checked(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StructuredTool) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.name, self.description, self.strict))

    def __reduce__(self) -> tuple[Any, ...]:
        # Python pickles functions and classes by name, so the source is pickled by name. The rest is rebuilt.
        made_of = None if self._output is None else self._output.kind
        return _unpickled, (self.model_dump(), made_of if self._function is None else self._function.call)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with changed fields and the same function (see `BaseModel.model_copy`)."""
        copied = super().model_copy(update=update, deep=deep)
        # These were built from the original fields.
        copied._fitted, copied._kind = {}, None
        return copied

    @classmethod
    def of(cls, source: Any) -> StructuredTool:
        """Build a tool from a function, type or schema.

        Args:
            source: A function (arguments from its signature, descriptions from its docstring), a Pydantic model,
                dataclass or TypedDict (its fields are the arguments), a JSON schema with a title, a provider's own
                definition, or a `StructuredTool`, which is returned unchanged.

        Raises:
            UsageError: If the source cannot be a tool: no name, a parameter without a type or with `*`, or a type
                without fields. Nothing was sent.
        """
        if isinstance(source, StructuredTool):
            return source
        if isinstance(source, Mapping):
            name, description, schema, strict = read_definition(source)
            return cls(name=_checked(name), description=description, json_schema=schema, strict=strict)
        if not inspect.isclass(source) and not callable(source):
            raise UsageError(
                f"A tool is a function, a Pydantic model, a StructuredTool or a mapping, not {type(source).__name__}. "
                f"Nothing was sent."
            )
        function = None if inspect.isclass(source) else Function(source)
        output = OutputType.of(source if function is None else function.kind)
        if output.fields is None:
            raise UsageError(
                f"A tool's arguments have names, and {output.name} has no fields. Give a model with fields, or a "
                f"function. Nothing was sent."
            )
        # The tool has the description of the whole, so the schema need not repeat it.
        schema = {key: value for key, value in output.json_schema.items() if key != "description"}
        name, description = (output.name, output.doc) if function is None else (function.name, function.description)
        made = cls(name=_checked(name), description=description, json_schema=schema)
        made._function, made._output = function, output
        return made

    @property
    def schema_name(self) -> str:
        """Alias of `name`."""
        return self.name

    @property
    def schema_description(self) -> str:
        """Alias of `description`."""
        return self.description

    @property
    def strict_schema(self) -> bool:
        """Alias of `strict`."""
        return self.strict

    @property
    def runnable(self) -> bool:
        """Whether the tool has a function to run."""
        return self._function is not None

    @property
    def kind(self) -> Any:
        """The type of the validated arguments: the type that the tool was built from, or one built from its schema."""
        return kind_of(self.json_schema, self.name) if self._output is None else self._output.kind

    def fit(self, dialect: Dialect) -> messages_types.Tool:
        """Return the tool as sent to a provider with this dialect. The same dialect returns the same object.

        Raises:
            UsageError: If the schema cannot be read. Nothing was sent.
        """
        return self._fit(dialect)[0]

    def parse(self, arguments: str) -> Any | Invalid:
        """Validate arguments.

        Args:
            arguments: JSON text from a model.

        Returns:
            An instance of the type that the tool was built from, or else a dict of validated values; `Invalid` if
            they do not match the schema.
        """
        return self._valued(self._reader(Fit(self.json_schema, None, False)), arguments)

    def read(self, arguments: str, dialect: Dialect) -> Any | Invalid:
        """Validate arguments like `parse`, for a tool that was sent as `fit` returns it for *dialect*."""
        return self._valued(self._fit(dialect)[1], arguments)

    def run(self, arguments: Any) -> str:
        """Call the tool's function and return its result as text for the model. Blocks; sends nothing.

        An async function runs to completion in its own event loop.

        Args:
            arguments: The result of `parse`.

        Returns:
            Text unchanged, any other result as JSON.

        Raises:
            UsageError: If the tool has no function.
            Exception: Any exception of the function.
        """
        if self._function is None:
            raise UsageError(f"There is no function behind the tool {self.name!r}. Nothing was run.")
        result = self._function.run(arguments)
        if not isinstance(result, str):
            result = _as_json(plain_json(result))
        # A lone surrogate cannot be encoded and sent.
        return result.encode("utf-8", "replace").decode()

    def _fit(self, dialect: Dialect) -> tuple[messages_types.Tool, FittedSchema]:
        found = self._fitted.get(dialect)
        if found is None:
            fitted, strict = self._asked(dialect)
            tool = messages_types.Tool(self.name, self.description, fitted.schema, strict)
            found = self._fitted[dialect] = tool, self._reader(fitted)
        return found

    def _asked(self, dialect: Dialect) -> tuple[Fit, bool]:
        """Return the fitted schema, and whether the provider can guarantee it."""
        schema = self.json_schema
        if not schema.get("properties") and not schema.get("additionalProperties") and schema.get("type") == "object":
            none = {"type": "object", "properties": {}} | ({"additionalProperties": False} if dialect.closed else {})
            return Fit(none, None, False), self.strict
        try:
            try:
                # A dialect may require all fields only for the guarantee. A tool that is not strict does not need it.
                if self.strict or not dialect.all_required:
                    return fit(schema, dialect), self.strict
            except UnsupportedSchemaError:
                pass
            return fit(schema, PLAIN), False
        except Exception as error:  # a handwritten schema can fail in any way
            raise UsageError(
                f"The JSON schema of the tool {self.name!r} cannot be read: {type(error).__name__}: {error}. "
                f"Nothing was sent."
            ) from error

    def _reader(self, fitted: Fit) -> FittedSchema:
        if self._kind is None:
            kind = kind_of(self.json_schema, self.name) if self._output is None else self._output.kind
            self._kind = kind, TypeAdapter(kind)
        return FittedSchema(*self._kind, fitted, "")

    def _valued(self, reader: FittedSchema, arguments: str) -> Any | Invalid:
        # A tool without arguments is often called with empty text instead of JSON.
        parsed = reader.parse(arguments if arguments.strip() else "{}")
        if parsed.failure is not None:
            return parsed.failure
        return parsed.value if self._function is None else self._function.given(parsed.value)


def _unpickled(fields: dict[str, Any], made_of: Any) -> StructuredTool:
    return StructuredTool(**fields) if made_of is None else StructuredTool.of(made_of).model_copy(update=fields)


def _as_json(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} cannot be the name of a tool: letters, digits, _ and -, at most 64, the first a letter or _. "
            f"Nothing was sent."
        )
    return name
