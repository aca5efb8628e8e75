"""The results's numbering of calls."""

from __future__ import annotations

from pllm_notebook.execution import ResultTable


def test_calls_are_numbered_by_first_appearance() -> None:
    results = ResultTable(5)

    calls = [results.add(row, key) for row, key in enumerate(["b", "a", "b", "c", "a"])]

    assert calls == [0, 1, 0, 2, 1]
    assert results.keys == ["b", "a", "c"]
    assert list(results.first_row) == [0, 1, 3]


def test_no_dictionary_of_a_large_plan_grows_large() -> None:
    results = ResultTable(20_000)

    for row in range(20_000):
        results.add(row, f"key {row}")

    assert max(map(len, results._index)) < 20_000 / 50
