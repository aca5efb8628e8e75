"""What `guarantee=` promises of a run: about which fields, against what, and where a row's confidence comes from."""

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
    """What is right about one field, row by row.

    Attributes:
        name: Of the labels.
        values: Shape (n_rows,), as JSON has them.
        missing: For each row, whether it has none.
    """

    name: str
    values: Sequence[Any]
    missing: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Promise:
    """That few rows keep a bad answer of the low-cost model (see `statistics.Guarantee`).

    Attributes:
        guarantee: How few, and how sure.
        output: The type.
        fields: Those that it is about: their values are known. A row is bad if one of them is.
        outside: Fields that nothing is promised of.
        source: Of the confidence: the model's own token probabilities, or the share of its samples.
        labels: By field; a field without any is compared with the strong model's answer.
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
        """Return it against labels, by the name of the field."""
        return replace(self, labels=labels)

    def is_right(self, row: int, kept: Any) -> bool:
        """Return whether an answer is right by the labels in every field, so that it cannot be bad to keep it.

        What the strong model says then changes nothing: a field is bad only where it is right and the kept answer is
        not. A field without a label is not known to be right.

        Args:
            row: Of the table, for its labels.
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
        """Return whether it is bad that a row keeps an answer where the strong model gives another one.

        Args:
            row: Of the table, for its labels.
            kept: The low-cost model's answer.
            strong: The strong model's.
        """
        own, other = self.output.field_values(kept), self.output.field_values(strong)
        for name, each in zip(self.names, self.fields, strict=True):
            one, two = each.value(own), each.value(other)
            known = each.positions()
            if set(each.codes(one, known)) == set(each.codes(two, known)):
                continue
            labels = self.labels.get(name)
            # Without a label it is not known who is right, and the strong model may be.
            if labels is None or labels.missing[row] or from_json(spelling(two)) == labels.values[row]:
                return True
        return False


def promise_for(options: Options, output: OutputType | None) -> Promise | None:
    """Return what `guarantee=` promises, None where it is not given.

    Raises:
        UsageError: When nothing can be promised as written. Nothing was sent.
        MissingPackageError: Without scipy.
    """
    if options.guarantee is None:
        # Labels may be a Series, which has no single truth when it is compared.
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
            "guarantee= needs a confidence, and a list has no token probabilities: give samples=5, for example, whose "
            "agreement is the confidence. Nothing was sent."
        )
    guarantee = Guarantee(options.guarantee, options.confidence_level)
    planned_looks(1_000, guarantee)  # a missing package is an error now, and not when all answers are paid for
    outside = names_without_choices(output.kind, output.fields, output.json_schema)
    return Promise(guarantee, output, output.choices, outside, "samples" if several else "logprobs")


def asked_options(promise: Promise, options: Options) -> Options:
    """Return the options of the low-cost model's question: with token probabilities where they are its confidence."""
    if promise.source == "samples" or options.probabilities:
        return options
    return replace(options, probabilities="logprobs")
