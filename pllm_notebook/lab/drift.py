"""The result of `out.llm.recheck`: whether a model's answers have changed beyond the noise of asking twice."""

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

# With this many rows, a change of 5 % of them is nearly always found if asking twice changes nothing.
_ROWS_FOR_5_PERCENT = 200


@dataclass(frozen=True, slots=True)
class FieldDrift:
    """The old and two new answers of one field.

    Attributes:
        field: The field's name without a run's prefix.
        rows: Rows with all three answers.
        old_differs: Rows in which both new answers agree and the old one differs.
        odd: Rows in which two of the three answers agree and one differs.
        noise: Share of rows whose two new answers differ.
        p: p of the hypothesis that the old answer is the odd one in no more than a third of cases, corrected for the
            number of fields (Holm). Exact for any amount of noise; assumes that rows are independent.
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
        fields: The drift of each field.
        model: The model as requested.
        served: Model names that the provider reported, then and now.
        fingerprints: OpenAI's `system_fingerprint`, then and now. () if replies have none.
        retiring: Whether the price table (genai-prices) lists the model as deprecated by its provider. None for a
            model that it does not list.
        drawn: Number of rows drawn.
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

        This is for one check: of twenty checks of an unchanged model, one is expected to report a change.
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
        facts = [("drift", said), ("model", f"{self.model} SIMULATED" if self.model.startswith("sim:") else self.model)]
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
    """Return p that the old answer is the odd one out no more often than by chance, its count, and the total count.

    Without drift, the three answers to a row are exchangeable, so the old one is the odd one with probability 1/3
    whatever the noise of asking twice. The test is therefore exact. Rows must be distinct questions.
    """
    alone = (first == second) & (old != first)
    same = [old == first, first == second, old == second]
    odd = np.logical_or.reduce(same) & ~np.logical_and.reduce(same)
    count, trials = int(alone.sum()), int(odd.sum())
    return binomial_tail(count, trials, 1 / 3), count, trials


def field_drifts(side: AnswerSide, rows: Sequence[int], new: Sequence[AnswerSide]) -> tuple[FieldDrift, ...]:
    """Return the drift of each field of some rows of a side, compared with both new answers."""
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
