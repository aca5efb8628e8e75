"""The figures of one field's change are all over the same rows: those answered on both sides."""

from __future__ import annotations

import numpy as np

from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.lab.field_changes import FieldValues, field_changes


def test_means_are_over_the_rows_answered_on_both_sides() -> None:
    both = np.array([True, True, False])
    stars = FieldValues.of(Column("stars", Kind.INTEGER), [1, 3, 100], [1, 5, None], both)

    (found,) = field_changes({"stars": stars}, both, np.arange(3), {})

    assert (found.compared, found.changed, found.means) == (2, 1, (2.0, 3.0))
