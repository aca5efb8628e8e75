"""The rows of an ensemble's run: each row once for each member, then what the judge is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pllm_notebook.ensemble.ensemble_rows import EnsembleRows
from pllm_notebook.execution import WholePrompts


class Texts(WholePrompts):
    label = "texts"
    total = 2

    def prompts(self, rows: range) -> Sequence[str]:
        return [f"row {row}" for row in rows]

    def assemble(self, run: Any) -> None:
        return None

    def errors(self, run: Any) -> None:
        return None


def test_each_row_is_asked_of_each_member_and_the_judge_last() -> None:
    rows = EnsembleRows(Texts(), 2)
    rows.judge_prompt = lambda group: f"judge {group}"

    rows.add(1)

    assert rows.total == 5
    assert list(rows.spec_of_row) == [0, 1, 0, 1, 2]
    assert rows.prompts(range(5)) == ["row 0", "row 0", "row 1", "row 1", "judge 1"]
    assert rows.prompts(range(3, 5)) == ["row 1", "judge 1"]
    assert [rows.position_of(row) for row in range(5)] == [0, 0, 1, 1, None]
