"""`out.llm.recheck`: whether a model still answers as it did, set apart from what asking twice changes anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pllm_notebook.formatting import counted
from pllm_notebook.lab.answer_sides import AnswerSide
from pllm_notebook.lab.field_changes import coded
from pllm_notebook.lab.paired_tests import binomial_tail, holm
from pllm_notebook.report_tables import HTMLFacts, text_facts

__all__ = ["Drift", "FieldDrift", "drift_p", "field_drifts"]

Numbers = np.ndarray[Any, np.dtype[Any]]

# With so many rows a change of 5 % of them is nearly always found, where asking twice changes nothing.
_ROWS_FOR_5_PERCENT = 200


@dataclass(frozen=True, slots=True)
class FieldDrift:
    """One field, asked again twice.

    Attributes:
        field: Without a run's prefix.
        rows: Rows with all three answers.
        old_differs: Rows where both new answers agree, and the old one differs.
        odd: Rows where two of the three answers agree, and one does not.
        noise: Share of rows whose two new answers differ.
        p: That the old answer is the odd one no more often than in one of three, corrected for the number of fields
            (Holm). Exact, whatever asking twice changes; it assumes that rows are independent of each other.
    """

    field: str
    rows: int
    old_differs: int
    odd: int
    noise: float
    p: float


@dataclass(frozen=True, slots=True, repr=False)
class Drift(HTMLFacts):
    """Old answers beside two new ones to the same questions.

    Attributes:
        fields: What each field shows.
        model: As it was asked.
        served: Names in which the provider answered then, and now.
        fingerprints: What OpenAI calls `system_fingerprint`, then and now; () where replies have none.
        retiring: Whether the table of prices (genai-prices) lists the model as deprecated by its provider; None for a
            model that it does not know.
        drawn: Rows that were drawn.
        frames: Both new results, for `compare`.
    """

    fields: tuple[FieldDrift, ...]
    model: str
    served: tuple[Sequence[str], Sequence[str]]
    drawn: int
    frames: tuple[Any, Any]
    fingerprints: tuple[Sequence[str], Sequence[str]] = ((), ())
    retiring: bool | None = None

    @property
    def has_drifted(self) -> bool:
        """Whether any field has p below 0.05.

        Of one check: of twenty checks of a model that has not changed, one says that it has.
        """
        return any(one.p < 0.05 for one in self.fields)

    def __repr__(self) -> str:
        return text_facts(self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        found = [one.field for one in self.fields if one.p < 0.05]
        rows = max((one.rows for one in self.fields), default=0)
        if found:
            said = f"The answers have changed: {', '.join(found)}."
        elif not rows:
            said = "Not known: no row that was drawn has two new answers. .frames has both runs, and their errors."
        else:
            few = "" if rows >= _ROWS_FOR_5_PERCENT else " With so few rows, a larger change may be, too."
            said = (f"No change found in {counted(rows, 'row')} beyond what asking twice changes. A change of less "
                    f"than 5 % of rows may be missed.{few}")  # fmt: skip
        facts = [("drift", said), ("model", self.model)]
        then, now = (", ".join(names) or "not known" for names in self.served)
        facts.append(("served", then if then == now else f"{then}, now {now}"))
        if any(self.fingerprints):
            before, after = (", ".join(prints) or "not known" for prints in self.fingerprints)
            facts.append(("fingerprint", before if before == after else f"{before}, now {after}"))
        if self.retiring:
            facts.append(("retiring", "genai-prices lists this model as deprecated by its provider"))
        for one in self.fields:
            odd = f"the old answer is the odd one in {one.old_differs:,} of {one.odd:,} (a third by chance)"
            facts.append(
                (
                    one.field,
                    f"{odd}, p = {one.p:.3f}; asked twice, {100 * one.noise:.1f} % of {one.rows:,} rows differ",
                )
            )
        return facts


def drift_p(old: Numbers, first: Numbers, second: Numbers) -> tuple[float, int, int]:
    """Return the p that the old answer is the odd one out no more often than by chance, how often it is, of how many.

    Without drift the three answers to a row are exchangeable, so that the old one is the odd one with chance 1/3,
    whatever share of answers differs when asked twice: the test is exact. Rows are to be distinct questions.
    """
    alone = (first == second) & (old != first)
    same = [old == first, first == second, old == second]
    odd = np.logical_or.reduce(same) & ~np.logical_and.reduce(same)
    count, trials = int(alone.sum()), int(odd.sum())
    return binomial_tail(count, trials, 1 / 3), count, trials


def field_drifts(side: AnswerSide, rows: Sequence[int], new: Sequence[AnswerSide]) -> tuple[FieldDrift, ...]:
    """Return what each field of some rows of a side shows beside both new answers."""
    answered = np.flatnonzero(new[0].answered & new[1].answered).tolist()
    made = []
    for field in side.columns:
        if field not in new[0].values or field not in new[1].values:
            continue
        old = [side.values[field][rows[at]] for at in answered]
        first, second = ([one.values[field][at] for at in answered] for one in new)
        codes, both, _ = coded(old, [*first, *second])
        p, count, trials = drift_p(codes, both[: len(old)], both[len(old) :])
        noise = float(np.mean(both[: len(old)] != both[len(old) :])) if old else float("nan")
        made.append(FieldDrift(field, len(old), count, trials, noise, p))
    corrected = holm([one.p for one in made])
    return tuple(
        FieldDrift(one.field, one.rows, one.old_differs, one.odd, one.noise, p)
        for one, p in zip(made, corrected, strict=True)
    )
