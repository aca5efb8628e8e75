"""A field's values, corrected with labels. The values in the frame are not changed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pllm_notebook.formatting import escape_html, strip_control_chars
from pllm_notebook.frames.probability_types import FieldProbabilities
from pllm_notebook.frames.table import Table
from pllm_notebook.schema import spelling
from pllm_notebook.statistics import CorrectedOptions, correct_options

__all__ = ["CorrectedValues", "corrected_values"]

Numbers = np.ndarray[Any, Any]

_SHOWN = 5


@dataclass(frozen=True)
class CorrectedValues:
    """Values that fit the labels better than the model's values. No value of the frame is changed.

    Attributes:
        field: The result column.
        values: The corrected value of each row of the frame, in its order, as text (like the options of
            `.llm.probabilities`). NA for "no value", and for a row without probabilities. For a labelled row it is from
            a fit that has not seen that row.
        changed: Number of rows whose value differs.
        moves: The most frequent changes: value in the frame, corrected value, number of rows.
        found: Accuracy on the labelled rows, before and after.
    """

    field: str
    values: Any = dataclasses.field(repr=False)
    changed: int
    moves: tuple[tuple[str, str, int], ...]
    found: CorrectedOptions = dataclasses.field(repr=False)

    def __repr__(self) -> str:
        found = self.found
        head = (
            f"{self.field}: {self.changed:,} values differ. Of {found.labels:,} labelled rows "
            f"{found.accuracy_before:.1%} are right as they are, {found.accuracy_after:.1%} corrected, by fits that "
            f"have not seen them."
        )
        return strip_control_chars("\n".join([head, *(f"{one} → {two}: {n:,}" for one, two, n in self.moves)]))

    def _repr_html_(self) -> str:
        return f"<pre>{escape_html(repr(self))}</pre>"


def corrected_values(
    table: Table,
    parts: Sequence[FieldProbabilities],
    positions: Numbers,
    rows: Numbers,
    said: Sequence[Any],
    truths: Sequence[Any],
    used: Numbers,
    usable: Numbers,
) -> CorrectedValues:
    """Correct the values of one field (see `ConfidenceCalibration.correct`).

    Args:
        table: The frame.
        parts: The field's probabilities, by model.
        positions: Positions of the rows of *parts* in the frame.
        rows: The run's row of each row of the frame.
        said: The value of each row of the frame.
        truths: The label of each row of the frame.
        used: Positions of the labelled rows.
        usable: For each row of the frame, whether its value is the model's.
    """
    options = parts[0].options
    p = np.full((table.total, len(options)), np.nan)
    p[positions] = np.mean([part.p for part in parts], axis=0)
    p[~usable] = np.nan
    places = {spelling(option): at for at, option in enumerate(options)}
    own = np.array([places.get(spelling(value), -1) for value in said], dtype=np.intp)
    label = np.full(table.total, -1, dtype=np.intp)
    label[used] = [places.get(spelling(truths[row]), -1) for row in used.tolist()]
    found = correct_options(p, own, label, rows)
    words = ["" if option is None else option if isinstance(option, str) else spelling(option).decode()
             for option in options]  # fmt: skip
    differs = (found.chosen >= 0) & (found.chosen != own)
    pairs = Counter(zip(own[differs].tolist(), found.chosen[differs].tolist(), strict=True)).most_common(_SHOWN)
    moves = tuple((words[one] if one >= 0 else "", words[two], count) for (one, two), count in pairs)
    codes = [-1 if at < 0 or options[at] is None else at for at in found.chosen.tolist()]
    values = table.frame_library.category_column(parts[0].field, codes, words, table)
    return CorrectedValues(parts[0].field, values, int(differs.sum()), moves, found)
