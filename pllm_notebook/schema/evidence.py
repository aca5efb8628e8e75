"""Answers with a quote for each field: the extended type that is sent, and the conversion back to the type's value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, Field, TypeAdapter, create_model
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from pllm_notebook.failures import FailureKind
from pllm_notebook.schema.checked_schema import Misfit
from pllm_notebook.schema.excerpts import excerpts
from pllm_notebook.schema.fields import OutputField
from pllm_notebook.schema.fitted_schema import FittedSchema, Invalid, Parsed
from pllm_notebook.schema.fitting import Fit

__all__ = ["ANSWER", "QuotingSchema", "quoting_type"]

ANSWER = "answer"
_INSTRUCTION = (
    "For each field of the answer, the shortest passage of the text that its value rests on, copied exactly, character "
    "for character. null where no passage states it."
)


def quoting_type(kind: Any, fields: Sequence[OutputField] | None) -> type[BaseModel]:
    """Return the type of `{"evidence": {field: quote or null, …}, "answer": …}`.

    The quotes come first, because an answer can only depend on what the model has written before it.

    Args:
        kind: The caller's type.
        fields: Its fields. None for a type without fields, which has one quote named "answer".
    """
    names = [ANSWER] if fields is None else [field.alias for field in fields]
    # A TypedDict allows names that are methods of a model, such as `copy`.
    quotes: Any = cast(Any, TypedDict)("Evidence", dict.fromkeys(names, str | None))
    return create_model("AnswerWithEvidence", evidence=(quotes, Field(description=_INSTRUCTION)), answer=(kind, ...))


class QuotingSchema(FittedSchema):
    """A `FittedSchema` for the type with quotes, whose values are those of the caller's type."""

    __slots__ = ("_check", "_plain")

    def __init__(self, kind: Any, fit: Fit, dialect: str, check: Misfit | None, plain: bool) -> None:
        super().__init__(kind, TypeAdapter(kind), fit, dialect)
        self._check = check
        self._plain = plain  # whether the caller's type has no fields

    def parse(self, text: bytes | str, context: Any = None) -> Parsed:
        parsed = super().parse(text, context)
        if parsed.failure is not None:
            return parsed
        value = self._answer(parsed.value)
        return Parsed(failure=value) if isinstance(value, Invalid) else Parsed(value)

    def parse_many(self, texts: Sequence[bytes], contexts: Sequence[Any] | None = None) -> list[Any]:
        values = super().parse_many(texts, contexts)
        return [value if isinstance(value, Invalid) else self._answer(value) for value in values]

    def _one_by_one(self, texts: Sequence[bytes], context: Any) -> list[Any]:
        parsed = [
            FittedSchema.parse(self, text, context) for text in texts
        ]  # the answers are extracted later, in the same way for all
        return [one.value if one.failure is None else one.failure for one in parsed]

    def quotes(self, text: bytes) -> Mapping[str, str | None]:
        """Return a reply's quote for each field, or nothing if it cannot be read."""
        parsed = super().parse(text)
        if parsed.failure is None:
            return dict(parsed.value.evidence)
        found = _Quotes(self).find(text.decode("utf-8", "replace"))
        return {} if found is None or found.failure is not None else dict(found.value.evidence)

    def claims(self, text: bytes) -> Mapping[str, str | None]:
        """Return a reply's quotes for the fields that have a value: null and missing values need no quote."""
        said = self._said(text)
        if said is None:
            return {}
        values = {ANSWER: said["answer"]} if self._plain else said["answer"]
        return {name: quote for name, quote in said["evidence"].items() if values.get(name) not in (None, "", [], {})}

    def combined(self, first: bytes, second: bytes, fields: Sequence[str]) -> bytes | None:
        """Return the combined text of two replies, or None if one cannot be read.

        Args:
            first: The reply for all other fields.
            second: The reply for *fields*, each with its quote.
            fields: JSON names, "answer" for a type without fields.
        """
        one, two = self._said(first), self._said(second)
        if one is None or two is None:
            return None
        quotes = one["evidence"] | {name: two["evidence"].get(name) for name in fields}
        if self._plain:
            return to_json({"evidence": quotes, "answer": two["answer"]})
        newer = {name: two["answer"][name] for name in fields if name in two["answer"]}
        return to_json({"evidence": quotes, "answer": one["answer"] | newer})

    def _said(self, text: bytes) -> dict[str, Any] | None:
        """Return a reply as decoded JSON, without surrounding prose, or None if it does not fit the type."""
        if super().parse(text).failure is None:
            return cast(dict[str, Any], from_json(text))
        for one in excerpts(text.decode("utf-8", "replace")):
            if FittedSchema.parse(self, one.text).failure is None:
                return cast(dict[str, Any], one.value)
        return None

    def _answer(self, value: Any) -> Any:
        answer = value.answer
        found = None if self._check is None else self._check(answer)
        if found is None:
            return answer
        where, message, kind = found
        return Invalid(FailureKind.SCHEMA, message, ((where, kind),))


class _Quotes(FittedSchema):
    """The schema with quotes for its own values, used to find a value surrounded by prose."""

    __slots__ = ()

    def __init__(self, made: FittedSchema) -> None:
        for name in FittedSchema.__slots__:
            setattr(self, name, getattr(made, name))
