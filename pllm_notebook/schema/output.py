"""The output type that a user requests, compiled once."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property, lru_cache
from operator import attrgetter
from types import GenericAlias
from typing import Any, cast, get_args, get_origin

import typing_extensions
from pydantic import RootModel, TypeAdapter, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from pllm_notebook.exceptions import UsageError, with_article
from pllm_notebook.messages_types import DecisionQuestion
from pllm_notebook.schema.checked_schema import (
    CheckedSchema,
    Misfit,
    check_of_data,
    checks_of_columns,
    each,
    either,
    with_inner,
)
from pllm_notebook.schema.choices import ChoiceField, choices_of
from pllm_notebook.schema.evidence import QuotingSchema, quoting_type
from pllm_notebook.schema.fields import OutputField, bare, fields_of
from pllm_notebook.schema.fitted_schema import FittedSchema
from pllm_notebook.schema.fitting import fit
from pllm_notebook.schema.json_types import kind_of
from pllm_notebook.schema.provider_support import PLAIN, Dialect
from pllm_notebook.schema.schema_match import says_null
from pllm_notebook.schema.type_names import as_name, shown_type, type_doc, type_name
from pllm_notebook.schema.validators import UNCHANGED, changes, not_none, type_after
from pllm_notebook.schema.written_schema import WrittenSchema, read_schema

__all__ = ["OutputType", "packed"]

_LISTS = (list, set, frozenset, Sequence, Set)


class _Generator(GenerateJsonSchema):
    def emit_warning(self, kind: Any, detail: str) -> None:
        """Emit nothing: a default that JSON cannot represent is still valid, and models never have to write it."""


class OutputType:
    """A type that Pydantic can validate, ready to be requested. Create it with `OutputType.of`.

    Args:
        kind: The type.
        written: The schema that the type was built from, None for the type's own schema.

    Attributes:
        kind: The type itself.
        name: Name for the provider: letters, digits, `_` and `-`, at most 64.
        doc: The type's own docstring, "" if it has none.
        fields: Fields of a model, dataclass or TypedDict, in declared order; None for other types.
        json_schema: Schema from Pydantic, by alias, for validation. Must not be changed.
        left: For a type without fields, the type of its values after its validators (see `validators.type_after`).
        questions: Questions for a decision endpoint that replace the type; () for a chat model.
    """

    questions: tuple[DecisionQuestion, ...] = ()

    def __init__(self, kind: Any, written: WrittenSchema | None = None) -> None:
        self.kind = kind
        self._adapter, own = _compile(kind)
        self.json_schema = own if written is None else written.schema
        self.name = type_name(kind) if written is None else as_name(written.name)
        self.doc = type_doc(kind) if written is None else written.description
        self.fields = fields_of(kind, self.json_schema)
        self.left, self._changed = self._after_validators()
        self._values = _getter(kind, self.fields)
        self._fitted: dict[Dialect, FittedSchema] = {}
        self._check: Misfit | None = None
        self._quoting: OutputType | None = None
        self._for_columns: dict[tuple[bool | str, bool, bool], OutputType] = {}

    def __repr__(self) -> str:
        return f"OutputType({self.name})"

    @classmethod
    def of(cls, kind: Any) -> OutputType:
        """Compile *kind*. Each type is compiled once.

        Args:
            kind: The type; or a JSON schema as a mapping, whose values are dicts.

        Raises:
            UsageError: If Pydantic cannot validate the type or has no JSON schema for it. Nothing was sent.
        """
        if isinstance(kind, Mapping):
            return _from_schema(read_schema(kind))
        try:
            hash(kind)
        except TypeError:  # Annotated[int, Field(ge=1)]
            return cls(kind)
        # Unions in another order are equal to Python but not to a provider, so the repr is part of the key.
        return _cached(kind, repr(kind))

    @classmethod
    def of_recorded(cls, schema: Mapping[str, Any]) -> OutputType:
        """Compile the `json_schema` of a type that is not available. Its values are dicts, and no validators run.

        A field that a reply leaves out gets the schema's default.
        """
        made = _from_schema(read_schema(schema))
        properties: Mapping[str, Any] = schema.get("properties") or {}
        defaults = {name: each["default"] for name, each in properties.items() if "default" in each}
        if defaults and made.fields is not None:
            take = made._values
            made._values = lambda value: take(defaults | value)
        return made

    @cached_property
    def item(self) -> OutputType | None:
        """The type of the items of a list, set or tuple of any length; None for other types."""
        # Compiled only on access: a list may contain lists of its own type.
        item = _item(self.kind)
        return None if item is None else OutputType.of(item)

    @cached_property
    def choices(self) -> tuple[ChoiceField, ...]:
        """The fields with a known list of values, in declared order, including those of nested models."""
        return choices_of(self.kind, self.fields, self.json_schema)

    @property
    def core_schema(self) -> Any:
        """Pydantic's core schema of the type."""
        return self._adapter.core_schema

    @property
    def takes_null(self) -> bool:
        """Whether the value itself may be null, so that a reply without text is valid."""
        return says_null(self.json_schema, self.json_schema.get("$defs", {}))

    def fit(self, dialect: Dialect) -> FittedSchema:
        """Fit the type to a provider. Returns the same object for the same dialect.

        Raises:
            UnsupportedSchemaError: If the provider does not support the type. Names the field, the provider and an
                alternative. Nothing was sent.
        """
        fitted = self._fitted.get(dialect)
        if fitted is None:
            asked = self if self._quoting is None else self._quoting
            fitting = fit(asked.json_schema, dialect)
            if self._quoting is not None:
                fitted = QuotingSchema(asked.kind, fitting, dialect.name, self._check, self.fields is None)
            else:
                fitted = FittedSchema(self.kind, self._adapter, fitting, dialect.name)
                if self._check is not None:
                    fitted = CheckedSchema(fitted, self._check)
            self._fitted[dialect] = fitted
        return fitted

    def for_columns(self, *, items: bool | str = False, flatten: bool = False, data: bool = True) -> OutputType:
        """Return the type with checks for values that become columns.

        A value that does not fit its column fails its row, so that the dtype never depends on the rows. Such values are
        integers beyond 64 bits and, if validators may change a value, for example an int in a text column. The call
        and its key do not change.

        Args:
            items: Whether a list's items become the columns; or the field whose items become lines.
            flatten: Whether the fields of nested types are columns too.
            data: Whether other nested values are columns of plain data, rather than objects or JSON text.
        """
        found = self._for_columns.get((items, flatten, data))
        if found is None:
            found = self._for_columns[items, flatten, data] = self._checking(items, flatten, data)
        return found

    def with_evidence(self) -> OutputType:
        """Return the type with a request for a quote for each field. Its values are those of this type."""
        found = copy.copy(self)
        found._fitted, found._for_columns = {}, {}
        found._quoting = OutputType(quoting_type(self.kind, self.fields))
        return found

    def _checking(self, items: bool | str, flatten: bool, data: bool) -> OutputType:
        of = self.item if items is True else self
        check = None if of is None else of._column_check(flatten, data, items if isinstance(items, str) else None)
        if check is None:
            return self
        found = copy.copy(self)
        found._fitted, found._check = {}, each(check) if items is True else check
        return found

    def _column_check(
        self, flatten: bool, data: bool, lines: str | None = None, outside: tuple[Any, ...] = ()
    ) -> Misfit | None:
        """Return a function that finds a value that does not fit its column, None if every value fits.

        Args:
            flatten: As for `for_columns`.
            data: As for `for_columns`.
            lines: The field whose items become lines, None without one.
            outside: The types around this one. Their fields do not become columns a second time.
        """
        columns = [("", self.left)] if self.fields is None else [(field.name, field.left) for field in self.fields]
        own = checks_of_columns(columns, self._values, changed=self._changed)
        if self.fields is None:
            return either(own, _inner_check(self.left, flatten=False, data=data))
        inner = []
        outside = (*outside, self.kind)
        for at, field in enumerate(self.fields):
            if field.name == lines:
                item = OutputType.of(not_none(field.annotation)).item
                if item is None:
                    continue
                plain = item.fields is None
                of_item = (
                    item._column_check(flatten, data) if plain else _inner_check(item.kind, flatten, data, outside)
                )
                check = None if of_item is None else each(of_item)
            else:
                check = _inner_check(not_none(field.left), flatten, data, outside)
            if check is not None:
                inner.append((at, field.name, check))
        return with_inner(own, self._values, inner)

    def _after_validators(self) -> tuple[Any, bool]:
        """Set the types of the fields after validators. Return the whole type's, and whether any value may change."""
        change, by_field = changes(self._adapter.core_schema)
        if self.fields is None:
            return type_after(self.kind, change), change is not UNCHANGED
        self.fields = tuple(
            replace(field, left=type_after(field.annotation, by_field.get(field.name, UNCHANGED)))
            for field in self.fields
        )
        return self.kind, bool(by_field)

    def field_values(self, value: Any) -> tuple[Any, ...]:
        """Return the field values of a validated value, in the order of `fields`.

        A key that a TypedDict leaves out becomes None. For a type without fields, the value alone.
        """
        return self._values(value)

    def check(self, text: str) -> None:
        """Check a reply before it is stored. Does nothing here; a `DecisionOutput` checks its answers.

        Raises:
            ValueError: If the reply is not valid.
        """

    def made_of(self, values: Sequence[Any], context: Any = None) -> Any:
        """Build a value from the result of `field_values`, through the type's own validators.

        Raises:
            ValueError: If the validators refuse it.
        """
        if self.fields is None:
            (value,) = values
            return self._adapter.validate_python(value, context=context, by_name=True, by_alias=False)
        typed_dict = typing_extensions.is_typeddict(get_origin(bare(self.kind)) or bare(self.kind))
        parts = {
            field.name: value
            for field, value in zip(self.fields, values, strict=True)
            if value is not None or field.required or not typed_dict  # a missing key arrives as None
        }
        return self._adapter.validate_python(parts, context=context, by_name=True, by_alias=False)


def _from_schema(written: WrittenSchema) -> OutputType:
    try:
        made = OutputType(kind_of(written.schema, written.name), written)
        made.fit(PLAIN)
    except UsageError:
        raise
    except Exception as error:  # a schema written by hand can be wrong in any way
        raise UsageError(
            f"The JSON schema {written.name!r} cannot be read: {type(error).__name__}: {error}. Nothing was sent."
        ) from error
    return made


def _inner_check(kind: Any, flatten: bool, data: bool, outside: tuple[Any, ...] = ()) -> Misfit | None:
    """Return the check of a nested value: of the columns of its fields, or of its plain data.

    Args:
        kind: Type of the nested value.
        flatten: As for `OutputType.for_columns`.
        data: As for `OutputType.for_columns`.
        outside: The types around it.
    """
    if kind is int:  # its own column has the check
        return None
    try:
        output = OutputType.of(kind)
    except UsageError:  # a validator's return annotation may be anything
        return None
    if flatten and isinstance(kind, type) and kind not in outside and output.fields:
        return output._column_check(flatten, data, outside=outside)
    return check_of_data(output._adapter.core_schema) if data else None


@lru_cache(maxsize=256)
def _cached(kind: Any, text: str) -> OutputType:
    return OutputType(kind)


def _compile(kind: Any) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    if isinstance(kind, str) or inspect.isroutine(kind):
        raise _no_type(repr(kind))
    try:
        adapter = TypeAdapter(kind)
        return adapter, adapter.json_schema(schema_generator=_Generator)
    except Exception as error:  # pydantic raises its own errors, SchemaError, NameError and TypeError
        if "\n" in repr(kind):  # a frame, an array
            raise _no_type(with_article(type(kind).__name__)) from None
        reason = str(error).partition("\n")[0].partition(". Set `")[0].rstrip(".")
        if isinstance(error, PydanticUserError) and error.code == "class-not-fully-defined":
            reason = "one of its annotations names something that is not defined, or only inside a function"
        raise UsageError(
            f"Got {shown_type(kind)}, which Pydantic cannot turn into a JSON schema: {reason}. Give a Pydantic model, "
            "a dataclass, or a type such as bool or list[str]. Nothing was sent."
        ) from error


def _no_type(shown: str) -> UsageError:
    return UsageError(
        f"Got {shown}, which is not a type. Give a Pydantic model, a dataclass, or a type such as bool or list[str]. "
        "Nothing was sent."
    )


def _item(kind: Any) -> Any:
    kind = bare(kind)
    if isinstance(kind, type) and issubclass(kind, RootModel):
        return _item(kind.model_fields["root"].annotation)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        return arguments[0]
    if origin in _LISTS and len(arguments) == 1:
        return arguments[0]
    return None


def _getter(kind: Any, fields: tuple[OutputField, ...] | None) -> Callable[[Any], tuple[Any, ...]]:
    if fields is None:
        return lambda value: (value,)
    names = [field.name for field in fields]
    if typing_extensions.is_typeddict(get_origin(bare(kind)) or bare(kind)):
        return lambda value: tuple(map(value.get, names))
    if len(names) < 2:
        return lambda value: tuple(getattr(value, name) for name in names)
    return attrgetter(*names)


def packed(output: OutputType | None) -> OutputType:
    """Return the type of a pack's reply: `{"answers": [{"index": …, "answer": …}, …]}`.

    Args:
        output: Type of one row, None for plain text.

    Raises:
        UsageError: If the type cannot be nested in another type. Nothing was sent.
    """
    kind: Any = str if output is None else output.kind
    # Type checkers cannot follow models that are built at run time.
    entry: Any = create_model("Entry", index=(int, ...), answer=(kind, ...))
    # Not `OutputType.of`, which caches types: this one is new each time and not needed again.
    return OutputType(create_model("Answers", answers=(cast(Any, GenericAlias(list, (entry,))), ...)))
