"""Reads values of a type from the texts of replies, one at a time or in bulk."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import add
from types import GenericAlias
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from pllm_notebook.failures import FailureKind
from pllm_notebook.schema.excerpts import Excerpt, excerpts, literals
from pllm_notebook.schema.fitting import Fit
from pllm_notebook.schema.number_checks import finite_check, may_say
from pllm_notebook.schema.schema_match import matches

__all__ = ["FittedSchema", "Invalid", "Parsed", "repair_lines"]

Location = tuple[str | int, ...]

_SHOWN_ERRORS = 3
_SHOWN_INPUT = 60
_SHOWN_MESSAGE = 300

# Rows validated at once: enough to spread the cost of a call, few enough that an invalid row
# costs the others little.
_CHUNK = 500

# Each row gets a key that no reply can know, one row a line. A reply that is not one whole JSON
# value then cannot pass for two or merge with the next one, because the keys would come out
# differently. (In a plain array, one split row and one merged pair would shift all rows between.)
_KEYS = [f"{secrets.token_hex(8)}.{n}" for n in range(_CHUNK)]
_PREFIXES = [f'"{key}":'.encode() for key in _KEYS]
_INDEX = {key: n for n, key in enumerate(_KEYS)}


@dataclass(frozen=True, slots=True)
class Invalid:
    """The reason why a reply's text is not a value of the type.

    Attributes:
        kind: `INVALID_JSON` or `SCHEMA`.
        message: One line for people, in Pydantic's wording.
        errors: Location and type of every error. They do not change with the wording.
    """

    kind: FailureKind
    message: str
    errors: tuple[tuple[Location, str], ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """The result of reading one reply.

    Attributes:
        value: An instance of the type; meaningless if there is a failure.
        failure: Why the text is not a value of the type. None if it is.
    """

    value: Any = None
    failure: Invalid | None = None


class FittedSchema:
    """A type as it is requested from one provider, with the conversion of replies to values.

    Reading runs the type's own validators, so it must not run on an event loop. Nothing is sent.

    Attributes:
        schema: Schema for the provider. Its root is an object; a root of another kind becomes its property `value`.
        dialect: The name of the provider's dialect.
        wrapped: Whether the value is the property `value` of the provider's reply.
    """

    __slots__ = ("_finite", "_many", "_one", "_plan", "_value", "dialect", "schema", "wrapped")

    def __init__(self, kind: Any, adapter: TypeAdapter[Any], fit: Fit, dialect: str) -> None:
        self.schema: dict[str, Any] = fit.schema
        self.dialect = dialect
        self.wrapped = fit.wrapped
        self._plan = fit.plan
        self._value = adapter
        self._finite = finite_check(adapter.core_schema)
        # Type checkers cannot follow a TypedDict and a dict that are built at run time.
        asked = TypedDict("Wrapped", {"value": kind}) if fit.wrapped else kind  # type: ignore[operator]
        self._one: TypeAdapter[Any] = TypeAdapter(asked) if fit.wrapped else adapter
        self._many: TypeAdapter[dict[str, Any]] = TypeAdapter(cast(Any, GenericAlias(dict, (str, asked))))

    def __repr__(self) -> str:
        return f"<FittedSchema for {self.dialect}, {len(self.schema['properties'])} properties>"

    def parse(self, text: bytes | str, context: Any = None) -> Parsed:
        """Read one reply.

        Args:
            text: A JSON text and nothing else; surrounding white space is allowed.
            context: Passed to validators as `info.context`.

        Returns:
            The value, or the reason why there is none. Errors raised by the type's validators become failures.
        """
        content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        try:
            value = self._found_finite(self._read(content, context), content)
            return Parsed(failure=value) if isinstance(value, Invalid) else Parsed(value)
        except ValidationError as error:
            return Parsed(failure=self._invalid(error))
        except BaseException as error:
            if _is_interrupt(error):
                raise
            return Parsed(failure=_raised(error))

    def parse_many(self, texts: Sequence[bytes], contexts: Sequence[Any] | None = None) -> list[Any]:
        """Read many replies.

        Args:
            texts: JSON texts, one per reply.
            contexts: The context of each reply, None for no contexts. If all are the same object, the replies are
                read in bulk.

        Returns:
            In the same order, a value for each reply, or an `Invalid` if `parse` would return a failure.
        """
        results: list[Any] = []
        first = contexts[0] if contexts else None
        if contexts is not None and any(context is not first for context in contexts):
            for text, context in zip(texts, contexts, strict=True):
                results += self._one_by_one([text], context)
            return results
        for start in range(0, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            values = self._chunk(chunk, first)
            results += values if self._finite is None else map(self._found_finite, values, chunk)
        return results

    def find(self, text: str, context: Any = None) -> Parsed | None:
        """Read a reply whose value is surrounded by prose.

        Each JSON value in it is tried against the type: the last first, and values with all fields before values that
        leave some to defaults. Then Python literals are tried. Values in reasoning blocks are ignored.

        Returns:
            The result of `parse`. If nothing fits, the failure of the first candidate; None without a candidate.
        """
        first: Parsed | None = None
        for look in (excerpts, literals):
            found = [one for one in look(text) if self.wrapped or isinstance(one.value, dict)]
            for one in sorted(found, key=self._leaves_out):
                parsed = self.parse(one.text, context)
                if parsed.failure is None:
                    return parsed
                first = first or parsed
        return first

    def follows(self, text: bytes) -> bool:
        """Return whether a reply matches the schema as it was sent, without running the type's validators."""
        try:
            return matches(from_json(text), self.schema, self.schema.get("$defs", {}))
        except (ValueError, RecursionError):
            return False

    def written(self, value: Any) -> str | None:
        """Return the text that a model would reply for a value.

        Args:
            value: Decoded JSON in the type's own form.

        Returns:
            None if the value cannot be written in the form that is requested from the provider.
        """
        fitted = {"value": value} if self.wrapped else value
        if self._plan is None:
            return to_json(fitted, inf_nan_mode="constants").decode()
        text = to_json(self._plan.fit(fitted), inf_nan_mode="constants")
        return text.decode() if from_json(self._converted(text)) == fitted else None

    def _leaves_out(self, one: Excerpt) -> bool:
        return not self.wrapped and not self.schema["properties"].keys() <= one.value.keys()

    def _found_finite(self, value: Any, content: bytes) -> Any:
        """Return *value*, or an `Invalid` if the reply contains a float that is not finite."""
        found = None if self._finite is None else self._finite(value)
        if found is None or not may_say(content):
            return value
        where = found.where
        place = f"{_dotted(where)}: " if where else ""
        return Invalid(FailureKind.SCHEMA, f"{place}Input should be a finite number", ((where, "finite_number"),))

    def _read(self, content: bytes, context: Any) -> Any:
        if not self.wrapped:
            return self._one.validate_json(self._converted(content), context=context)
        try:
            return self._one.validate_json(self._converted(content), context=context)["value"]
        except ValidationError as error:
            # A server that does not enforce the schema may have replied with the bare value, itself perhaps an object.
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            if (first["loc"], first["type"]) == ((), "dict_type"):
                return self._value.validate_json(self._bare(content), context=context)
            if (first["loc"], first["type"]) == (("value",), "missing"):
                with suppress(ValidationError):
                    return self._value.validate_json(self._bare(content), context=context)
            raise

    def _converted(self, content: bytes) -> bytes:
        if self._plan is None:
            return content
        row = _decode(content)
        if self.wrapped and not isinstance(row, dict):
            row = {"value": row}
        return to_json(self._plan(row), inf_nan_mode="constants")

    def _bare(self, content: bytes) -> bytes:
        """Convert a value that the reply did not wrap, and return it unwrapped."""
        if self._plan is None:
            return content
        return to_json(self._plan({"value": _decode(content)})["value"], inf_nan_mode="constants")

    def _chunk(self, texts: Sequence[bytes], context: Any) -> list[Any]:
        bad: set[int] = set()
        try:
            values = self._at_once(texts, context)
            if values is None:
                return self._one_by_one(texts, context)
            return values
        except ValidationError as error:
            bad = _bad_rows(error)
        except BaseException as error:  # a validator's own error does not name its row
            if _is_interrupt(error):
                raise
        good = [text for n, text in enumerate(texts) if n not in bad]
        values = None
        if bad and good:
            with suppress(Exception, SystemExit):
                values = self._at_once(good, context)
        if values is None:
            return self._one_by_one(texts, context)
        rest = iter(values)
        return [self._one_by_one([text], context)[0] if n in bad else next(rest) for n, text in enumerate(texts)]

    def _one_by_one(self, texts: Sequence[bytes], context: Any) -> list[Any]:
        parsed = [self.parse(text, context) for text in texts]
        return [one.value if one.failure is None else one.failure for one in parsed]

    def _at_once(self, texts: Sequence[bytes], context: Any) -> list[Any] | None:
        """Read all *texts* as one document; None if the rows do not come out as they went in."""
        content = b"{" + b",\n".join(map(add, _PREFIXES, texts)) + b"}"
        keys = _KEYS[: len(texts)]
        plan = self._plan
        if plan is not None:
            rows: dict[str, Any] = _decode(content)
            content = to_json({key: plan(row) for key, row in rows.items()}, inf_nan_mode="constants")
        values = self._many.validate_json(content, context=context)
        if list(values) != keys:
            return None
        return [row["value"] for row in values.values()] if self.wrapped else list(values.values())

    def _invalid(self, error: ValidationError) -> Invalid:
        details = error.errors(include_url=False, include_context=False)
        first = details[0]
        if first["type"] == "json_invalid" and not first["loc"]:
            return _not_json(first["msg"], first["input"])
        found = []
        for detail in details:
            location = detail["loc"]
            if self.wrapped and location[:1] == ("value",) and (location, detail["type"]) != (("value",), "missing"):
                location = location[1:]
            found.append((location, detail))
        shown = [_line(location, detail) for location, detail in found[:_SHOWN_ERRORS]]
        if len(found) > _SHOWN_ERRORS:
            shown.append(f"and {len(found) - _SHOWN_ERRORS} more")
        message = _cut("; ".join(shown), _SHOWN_MESSAGE)
        return Invalid(FailureKind.SCHEMA, message, tuple((location, detail["type"]) for location, detail in found))


def repair_lines(failure: Invalid | Parsed) -> list[str]:
    """Describe the errors of a reply for the model that wrote it, one error a line.

    The lines use only location and type. Their wording must not change with Pydantic's, because
    the turn that contains them is part of a cache key. Empty without a failure.
    """
    invalid = failure.failure if isinstance(failure, Parsed) else failure
    return [f"at {_dotted(location) or 'the top'}: {kind}" for location, kind in invalid.errors] if invalid else []


class _NotJson(ValueError):
    """A text that is not JSON: the reason and the text."""


def _decode(content: bytes) -> Any:
    # Not orjson, which refuses NaN and turns integers beyond 64 bits into floats.
    try:
        return from_json(content)
    except ValueError as error:
        raise _NotJson(str(error), content) from None


def _bad_rows(error: ValidationError) -> set[int]:
    """Return the rows that have errors; empty if an error lies outside of all rows."""
    bad = set()
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        row = _INDEX.get(str(detail["loc"][0])) if detail["loc"] else None
        if row is None:
            return set()
        bad.add(row)
    return bad


def _is_interrupt(error: BaseException) -> bool:
    """Return whether the user interrupted. Outside the main thread, the validator itself raised it."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def _raised(error: BaseException) -> Invalid:
    if isinstance(error, _NotJson):
        return _not_json(*error.args)
    name = type(error).__name__
    message = _cut(f"a validator raised {name}: {error}", _SHOWN_MESSAGE)
    return Invalid(FailureKind.SCHEMA, message, (((), name),))


def _not_json(reason: str, text: bytes | str) -> Invalid:
    reason = reason.removeprefix("Invalid JSON: ")
    got = _cut(text.decode(errors="replace") if isinstance(text, bytes) else text, _SHOWN_INPUT)
    message = f"the reply is not JSON: {reason} (got {got!r})"
    return Invalid(FailureKind.INVALID_JSON, message, (((), "json_invalid"),))


def _line(location: Location, detail: Mapping[str, Any]) -> str:
    got = "" if detail["type"] == "missing" else f" (got {_cut(repr(detail['input']), _SHOWN_INPUT)})"
    where = _dotted(location)
    return f"{where}: {detail['msg']}{got}" if where else f"{detail['msg']}{got}"


def _dotted(location: Location) -> str:
    # Inside unions, Pydantic's locations also include the names of validators.
    return ".".join(str(part) for part in location if not str(part).startswith("function-"))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
