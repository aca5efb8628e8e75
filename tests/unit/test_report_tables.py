"""Small tables: figures below each other, short cells in one line, and nothing that is markup."""

from __future__ import annotations

import re

import pytest

from pllm_notebook.report_tables import html_table


def sides(cells: list[str]) -> set[str]:
    """Return where the cells of a column are aligned."""
    return set(re.findall(r"<td style='text-align:(\w+)", html_table(["a"], [[cell] for cell in cells])))


@pytest.mark.parametrize(
    "cells", [["1", "10,000"], ["$0.0023", "<$0.000001", "unknown"], ["-0.03", ""], ["12 %", "<1 %"]]
)
def test_figures_are_below_each_other_beside_gaps_and_what_is_unknown(cells: list[str]) -> None:
    assert sides(cells) == {"right"}


@pytest.mark.parametrize("cells", [["1", "one"], ["2026-11-30 21:36"], ["1.0 s"], ["3f2a91c4"], ["", ""]])
def test_what_is_more_than_figures_is_aligned_left(cells: list[str]) -> None:
    assert sides(cells) == {"left"}


def test_a_short_cell_is_one_line_and_every_cell_is_escaped() -> None:
    html = html_table(["<b>"], [["2026-11-30 21:36"], ["<i>" + "long " * 20]])

    assert html.count("white-space:nowrap") == 2
    assert "<b>" not in html
    assert "<i>" not in html
