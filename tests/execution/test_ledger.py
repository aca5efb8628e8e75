"""The ledger's numbering of calls."""

from __future__ import annotations

from pllm_notebook.execution import ResultTable


def test_calls_are_numbered_by_first_appearance() -> None:
    ledger = ResultTable(5)

    calls = [ledger.add(row, key) for row, key in enumerate(["b", "a", "b", "c", "a"])]

    assert calls == [0, 1, 0, 2, 1]
    assert ledger.keys == ["b", "a", "c"]
    assert list(ledger.first_row) == [0, 1, 3]


def test_no_dictionary_of_a_large_plan_grows_large() -> None:
    ledger = ResultTable(20_000)

    for row in range(20_000):
        ledger.add(row, f"key {row}")

    assert max(map(len, ledger._index)) < 20_000 / 50
