"""The promise of `guarantee=`: the fields it covers, what they are compared with, and the source of the confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic_core import from_json

from pllm_notebook.exceptions import UsageError
from pllm_notebook.options import Options
from pllm_notebook.schema import ChoiceField, OutputType, names_without_choices, spelling
from pllm_notebook.statistics import Guarantee, planned_looks

__all__ = ["KnownLabels", "Promise", "asked_options", "promise_for"]

_DEFAULTS = Options()


@dataclass(frozen=True, slots=True)
class KnownLabels:
    """The known right values of one field, row by row.

    Attributes:
        name: Name of the labels.
        values: Shape (n_rows,), as JSON has them.
        missing: For each row, whether it has no label.
    """

    name: str
    values: Sequence[Any]
    missing: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Promise:
    """The promise that few rows keep a bad answer of the low-cost model (see `statistics.Guarantee`).

    Attributes:
        guarantee: The share of rows and the confidence level.
        output: The type to parse.
        fields: The fields covered, which have a known set of values. A row is bad if one of them is.
        outside: The fields that are not covered.
        source: Source of the confidence: the model's token probabilities, or the share of agreeing samples.
        labels: Labels by field. A field without labels is compared with the strong model's answer.
    """

    guarantee: Guarantee
    output: OutputType
    fields: tuple[ChoiceField, ...]
    outside: tuple[str, ...]
    source: Literal["logprobs", "samples"]
    labels: Mapping[str, KnownLabels] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the fields; "answer" for a type without fields."""
        return [each.name or "answer" for each in self.fields]

    def with_labels(self, labels: Mapping[str, KnownLabels]) -> Promise:
        """Return the promise with labels, keyed by field name."""
        return replace(self, labels=labels)

    def is_right(self, row: int, kept: Any) -> bool:
        """Return whether the labels confirm an answer in every field, so that keeping it cannot be bad.

        The strong model's answer then makes no difference: a field is bad only if the strong answer is right and the
        kept answer is not. A field without a label is not known to be right.

        Args:
            row: Index of the row in the table, for its labels.
            kept: The low-cost model's answer.
        """
        if self.labels.keys() != set(self.names):
            return False
        own = self.output.field_values(kept)
        return all(
            not (labels := self.labels[name]).missing[row]
            and from_json(spelling(each.value(own))) == labels.values[row]
            for name, each in zip(self.names, self.fields, strict=True)
        )

    def is_bad(self, row: int, kept: Any, strong: Any) -> bool:
        """Return whether it is bad that a row keeps its answer instead of the strong model's.

        Args:
            row: Index of the row in the table, for its labels.
            kept: The low-cost model's answer.
            strong: The strong model's answer.
        """
        own, other = self.output.field_values(kept), self.output.field_values(strong)
        for name, each in zip(self.names, self.fields, strict=True):
            one, two = each.value(own), each.value(other)
            known = each.positions()
            if set(each.codes(one, known)) == set(each.codes(two, known)):
                continue
            labels = self.labels.get(name)
            # Without a label it is unknown which answer is right, and it may be the strong model's.
            if labels is None or labels.missing[row] or from_json(spelling(two)) == labels.values[row]:
                return True
        return False


def promise_for(options: Options, output: OutputType | None) -> Promise | None:
    """Return the promise of `guarantee=`, or None without one.

    Raises:
        UsageError: If the options allow no promise. Nothing was sent.
        MissingPackageError: If scipy is not installed.
    """
    if options.guarantee is None:
        # Labels may be a Series, whose comparison has no single truth value.
        for name, given in (
            ("against", options.against is not None),
            ("confidence_level", options.confidence_level != _DEFAULTS.confidence_level),
        ):
            if given:
                raise UsageError(f"{name}= is read with guarantee= alone. Nothing was sent.")
        return None
    if options.decide != "escalate" or options.judge is None:
        raise UsageError(
            "guarantee= needs decide='escalate' and the stronger model, judge='provider:name'. Nothing was sent."
        )
    if output is None or not output.choices:
        asked = "plain text" if output is None else output.name
        raise UsageError(
            f"guarantee= is about fields whose values are known (Literal, Enum, bool, an int with ge and le, or a list "
            f"of these), and {asked} has none. Nothing was sent."
        )
    for name, value in (("pack", (options.pack or 1) > 1), ("shard", options.shard is not None),
                        ("tools", options.tools is not None)):  # fmt: skip
        if value:
            raise UsageError(f"guarantee= does not go with {name}=. Nothing was sent.")
    if options.probabilities not in (None, False, True, "logprobs", "samples"):
        raise UsageError(
            f"guarantee= takes its confidence from token probabilities or samples=, not from "
            f"probabilities={options.probabilities!r}. Nothing was sent."
        )
    several = options.samples > 1 or len(options.models or ()) > 1
    if not several and all(each.kind == "labels" for each in output.choices):
        raise UsageError(
            "guarantee= needs a confidence, and a list has no token probabilities: pass for example samples=5, whose "
            "agreement is the confidence. Nothing was sent."
        )
    guarantee = Guarantee(options.guarantee, options.confidence_level)
    planned_looks(1_000, guarantee)  # a missing package must be an error now, before any answer is paid for
    outside = names_without_choices(output.kind, output.fields, output.json_schema)
    return Promise(guarantee, output, output.choices, outside, "samples" if several else "logprobs")


def asked_options(promise: Promise, options: Options) -> Options:
    """Return the options of the low-cost model, with token probabilities if they are the confidence."""
    if promise.source == "samples" or options.probabilities:
        return options
    return replace(options, probabilities="logprobs")
