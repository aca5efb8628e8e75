"""Verification of quotes, and the second answers that are requested if a quote is not in its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pllm_notebook.cell_text import as_text
from pllm_notebook.execution import LiveRun, SecondRecord, key_prefixes
from pllm_notebook.frames.quotations import find_quote
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.schema import OutputType

__all__ = ["RowEvidence", "SecondAnswer", "quoted_names"]


class SecondAnswer(NamedTuple):
    """The replacement for a first answer without evidence.

    Attributes:
        before: Key of the first answer's reply.
        fields: JSON names of the fields taken from the second answer.
    """

    before: str
    fields: tuple[str, ...]


class RowEvidence:
    """The verification of quotes in the rows of a run (see `execution.EvidenceOfRows`).

    Args:
        given: The columns of the prompt.

    Attributes:
        second: The second answers by key of the row's first call, only for calls that were sent a second time.
    """

    def __init__(self, given: ColumnData) -> None:
        self._given = given
        self.second: dict[str, SecondAnswer] = {}

    def unverified(self, row: int, quotes: Mapping[str, str | None]) -> tuple[str, ...]:
        """Return the names of the quotes that no cell of a row contains, including quotes that are None."""
        cells = zip(self._given.values, self._given.missing, strict=True)
        texts = [as_text(values[row]) for values, missing in cells if not missing[row]]
        return tuple(
            name
            for name, quote in quotes.items()
            if quote is None or all(find_quote(quote, text) is None for text in texts)
        )

    def asked_again(self, key: str, before: str, fields: Sequence[str]) -> None:
        """Record that a second answer replaced the first in some fields."""
        self.second[key] = SecondAnswer(before, tuple(fields))

    def record(self, run: LiveRun) -> SecondRecord | None:
        """Return the registry's record of second answers, None if there are none."""
        if not self.second or run.spec.output is None:
            return None
        outcomes = run.table.outcomes
        calls = [(row, call) for row, call in enumerate(run.table.call_of_row) if 0 <= call < len(outcomes)]
        given = [(row, self.second[o.key]) for row, call in calls if (o := outcomes[call]) and o.key in self.second]
        names = quoted_names(run.spec.output)
        return SecondRecord(
            np.array([row for row, _ in given], dtype=np.int32),
            key_prefixes([second.before for _, second in given]),
            np.array([[name in second.fields for name in names] for _, second in given], dtype=bool),
        )


def quoted_names(output: OutputType) -> list[str]:
    """Return the JSON names of the quoted values in a reply: the fields of a type, or "answer" without fields."""
    return ["answer"] if output.fields is None else [field.alias for field in output.fields]
