"""Calls and rows in the table of results, and who sees them."""

from __future__ import annotations

from pllm_notebook.execution import Outcome, ResultTable
from pllm_notebook.execution.row_observer import RowObserver


def outcome(key: str) -> Outcome:
    return Outcome("yes", None, key, (), False)


def test_equal_keys_of_two_specs_are_two_calls() -> None:
    table = ResultTable(4)

    calls = [table.add(row, key, spec) for row, (key, spec) in enumerate([("a", 0), ("a", 1), ("a", 0), ("a", 1)])]

    assert calls == [0, 1, 0, 1]
    assert list(table.spec_of_call) == [0, 1]


def test_each_row_of_a_call_is_reported_once_whenever_it_was_planned() -> None:
    table, seen = ResultTable(4), list[int]()
    table.observer = RowObserver(table, seen.append)
    for row in (0, 1):
        table.add(row, "a")
    table.skip(2)

    table.count_planned([0, 1, 2], {0: 2}, skipped=1, failed=0)
    before = list(seen)
    table.record(0, outcome("a"))
    table.add(3, "a")
    table.count_planned([3], {0: 1}, skipped=0, failed=0)

    assert before == [2]
    assert seen == [2, 0, 1, 3]
    assert (table.progress.done, table.progress.skipped) == (3, 1)
