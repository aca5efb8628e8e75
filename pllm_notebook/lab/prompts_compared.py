"""`pllm.compare`: several prompts, models or options on the same rows. Cached answers are not requested again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.execution import Run, RunWait, Steps, awaiting, blocking, live_of
from pllm_notebook.formatting import counted, format_usd_or
from pllm_notebook.frames.labels import check_kind, has_known_values
from pllm_notebook.frames.libraries import accessor_of, table_of
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of
from pllm_notebook.frames.stored_labels import STORED, stored_labels
from pllm_notebook.lab.comparison import Comparison
from pllm_notebook.lab.labelled_questions import field_columns
from pllm_notebook.lab.paired_tests import holm
from pllm_notebook.lab.row_matching import check_field, compare_table, labelled_field
from pllm_notebook.lab.run_costs import paid_usd
from pllm_notebook.options import Options, ParseOptions, taken_by
from pllm_notebook.report_tables import html_table, text_table
from pllm_notebook.signatures import shows

__all__ = ["Comparisons", "acompare", "compare"]


class Comparisons(Mapping[str, Comparison]):
    """Several variants on the same rows, each compared with the first. A mapping by name.

    Args:
        first: Name of the variant that the others are compared with.
        compared: Comparisons of the other variants.
        frames: The answers of every variant, by name.
        cost_usd: US dollars paid for all of them.

    Attributes:
        first: As given.
        frames: As given.
        cost_usd: US dollars paid by this call. None for an unknown price. A call that several variants share is paid
            for and counted once; cached answers add nothing.
    """

    def __init__(
        self,
        first: str,
        compared: Mapping[str, Comparison],
        frames: Mapping[str, Any],
        cost_usd: float | None,
    ) -> None:
        self.first = first
        self.frames = dict(frames)
        self.cost_usd = cost_usd
        self._compared = dict(compared)

    def __getitem__(self, name: str) -> Comparison:
        return self._compared[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._compared)

    def __len__(self) -> int:
        return len(self._compared)

    def __repr__(self) -> str:
        return f"{self._title()}\n\n{text_table([_HEAD, *self._lines()])}"

    def _repr_html_(self) -> str:
        return f"<p>{self._title()}</p>{html_table(_HEAD, self._lines())}"

    def _title(self) -> str:
        paid = format_usd_or(self.cost_usd, "an unknown amount")
        sides = (side for one in self.values() for side in (one.rows.old, one.rows.new))
        marked = "SIMULATED: " if any(side.is_simulated for side in sides) else ""
        return (
            f"{marked}{counted(len(self), 'variant')} beside {self.first!r}; p values are corrected for their number "
            f"(Holm). Paid now: {paid} for all variants together."
        )

    def _lines(self) -> list[tuple[str, ...]]:
        tests = [one.labelled for one in self.values()]
        corrected = holm([float("nan") if test is None else test.p for test in tests])
        lines: list[tuple[str, ...]] = []
        for (name, one), test, p in zip(self.items(), tests, corrected, strict=True):
            cost = one.costs[1].cost_usd
            figures = ("", "", "") if test is None else (
                f"{test.new_accuracy:.3f}",
                f"{100 * test.difference:+.1f} ({100 * test.low:+.1f} to {100 * test.high:+.1f})",
                "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.05 else f"{p:.2f}, not significant",
            )  # fmt: skip
            lines.append((name, f"{len(one):,} of {len(one.rows.line):,}", *figures,
                          "unknown" if cost is None else f"{1_000 * cost:.4f}"))  # fmt: skip
        return lines


_HEAD = (
    "variant",
    "rows changed",
    "accuracy",
    "points (95 % interval)",
    "p",
    "alone, US dollars a thousand distinct rows",
)


# What a variant may name besides the options of `parse`.
_OWN = ("prompt", "response_format", "kind")


@shows(taken_by(Options, "parse"))
def compare(  # type: ignore[misc]  # its own `against` is that of the comparison
    variants: Mapping[str, str | Mapping[str, Any] | None],
    response_format: Any = NOT_GIVEN,
    *,
    on: Any,
    against: Any = None,
    field: str | None = None,
    **options: Unpack[ParseOptions],
) -> Comparison | Comparisons:
    """Run several prompts on the same rows, and compare the others with the first.

    Only calls that are not cached are sent. All variants run concurrently within the shared rate limits, each with its
    own `max_cost_usd`. After an interrupt, finished answers are kept; repeat the call to continue.

    Args:
        variants: Maps names to prompts, or to mappings of the differences: `prompt`, `response_format`, and options of
            `df.llm.parse` such as `model`. Two or more.
        response_format: As for `df.llm.parse`.
        on: The rows: a frame or a column of any library.
        against: Known labels, a column of *on* or a Series, for a paired test. They are not sent unless the prompt
            names their column. Without a prompt, `columns=` chooses the columns to send.
        field: The field that the labels are for.
        **options: As for `df.llm.parse`, for all variants.

    Returns:
        For two variants, a `Comparison` of the second with the first. For more, a mapping from the name of each other
        variant to its comparison with the first; `.frames` has the answers of each.

    Raises:
        UsageError: For fewer than two variants, or invalid arguments. Nothing was sent.
    """
    return blocking(_compare(variants, response_format, on, against, field, options))


@shows(taken_by(Options, "parse"))
async def acompare(  # type: ignore[misc]  # its own `against` is that of the comparison
    variants: Mapping[str, str | Mapping[str, Any] | None],
    response_format: Any = NOT_GIVEN,
    *,
    on: Any,
    against: Any = None,
    field: str | None = None,
    **options: Unpack[ParseOptions],
) -> Comparison | Comparisons:
    """Run `pllm.compare` and await its result. Cancelling stops it; finished answers are kept."""
    return await awaiting(_compare(variants, response_format, on, against, field, options))


def _compare(
    variants: Mapping[str, str | Mapping[str, Any] | None],
    response_format: Any,
    on: Any,
    against: Any,
    field: str | None,
    options: Mapping[str, Any],
) -> Steps[Comparison | Comparisons]:
    if not isinstance(variants, Mapping) or len(variants) < 2:
        raise UsageError(
            'pllm.compare takes two or more prompts by name, {"A": "…", "B": "…"}; to compare answers that you have, '
            "new.llm.compare(old). Nothing was sent."
        )
    if odd := [name for name in variants if not isinstance(name, str) or not name]:
        raise UsageError(f"A variant's name is text, not {odd[0]!r}. Nothing was sent.")
    check_field(against, field)
    _check_labels(on, against, field)
    names = list(variants)
    asked = [_question(name, variants[name], response_format, options) for name in names]
    _check_field(on, against, field, asked)
    runs: list[Run] = []
    try:
        for kind, prompt, given in asked:
            runs.append(accessor_of(on, "pllm.compare").submit(kind, prompt, **given))
        for run in runs:
            yield RunWait(live_of(run))
        frames = [run.result() for run in runs]
    except BaseException:
        for run in runs:
            run.cancel()
        raise
    paid = paid_usd([live_of(run) for run in runs])
    compared = {
        name: replace(_compared(frame, runs[0], against, field, (names[0], name)), cost_usd=paid)
        for name, frame in zip(names[1:], frames[1:], strict=True)
    }
    if len(names) == 2:
        return compared[names[1]]
    return Comparisons(names[0], compared, dict(zip(names, frames, strict=True)), paid)


def _question(
    name: str, variant: str | Mapping[str, Any] | None, response_format: Any, options: Mapping[str, Any]
) -> tuple[Any, str | None, dict[str, Any]]:
    """Return the type, prompt and options of a variant."""
    if variant is None or isinstance(variant, str):
        return response_format, variant, dict(options)
    if not isinstance(variant, Mapping):
        raise UsageError(
            f"The variant {name!r} is a prompt, or a mapping of what differs, not {type(variant).__name__}. "
            f"Nothing was sent."
        )
    known = {*_OWN, *taken_by(Options, "parse")}
    if unknown := [each for each in variant if each not in known]:
        raise UnknownOptionError(unknown[0], known)
    given = {**options, **variant}
    return given.pop("response_format", response_format), given.pop("prompt", None), given


def _check_labels(on: Any, against: Any, field: str | None) -> None:
    """Refuse missing labels before any prompt is paid for."""
    table = table_of(on)
    if table is not None and not table.total:
        raise UsageError("on= has no rows: nothing is left of the selection that made it. Nothing was sent.")
    if against is None or table is None:
        return
    if isinstance(against, str) and against == STORED and STORED not in table.names:
        if field is not None and not any(stored_labels(table, field)):
            raise UsageError(
                f"The cache directory has no label of {field!r} for a row of this frame. pllm.labels() lists all. "
                f"Nothing was sent."
            )
    elif all(table.labels(against, ()).missing):
        raise UsageError("No row has a label in against=. Nothing was sent.")


def _check_field(
    on: Any, against: Any, field: str | None, asked: Sequence[tuple[Any, str | None, dict[str, Any]]]
) -> None:
    """Refuse answers without a common field, and labels that no answer can equal, before any answer is paid for."""
    table = table_of(on)
    if table is None:
        return
    known = []
    for kind, _, given in asked:
        options = {**given}
        known.append(field_columns(format_of(kind, options, "pllm.compare"), options))
    for own in known[1:]:
        if not set(own) & set(known[0]):
            raise UsageError(
                f"The answers of the variants have no field in common, so nothing can be compared: the first has "
                f"{list(known[0])}, another {list(own)}. Nothing was sent."
            )
    is_stored = isinstance(against, str) and against == STORED and STORED not in table.names
    if against is None or (is_stored and field is None):
        return
    common = [name for name in known[0] if all(name in own for own in known)]
    if is_stored:
        labelled_field(common, field, STORED)
        return
    labels = table.labels(against, ())
    named = "labels" if labels.name is None else str(labels.name)
    chosen = labelled_field(common, field, named)
    values = [value for value, gap in zip(labels.values, labels.missing, strict=True) if not gap]
    for own in known:
        if not has_known_values(own[chosen]):
            check_kind(own[chosen], named, values)


def _compared(frame: Any, first: Run, against: Any, field: str | None, names: tuple[str, str]) -> Comparison:
    table = table_of(frame)
    assert table is not None
    return compare_table(table, first, against, field, names)
