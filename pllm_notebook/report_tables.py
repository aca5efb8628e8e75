"""Small tables for display: aligned text, and HTML with escaped cells."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from pllm_notebook.formatting import escape_html, strip_control_chars

__all__ = ["HTMLFacts", "html_facts", "html_table", "text_facts", "text_table"]

_LEFT = "style='text-align:left'"
_ONE_LINE = "white-space:nowrap"
# Dates, ids and names up to this length are not broken in a narrow table.
_MOST_UNBROKEN = 24
_FIGURE = re.compile(r"[<+\-−]?\$?\d[\d,]*(\.\d+)?(e[+-]\d+)?( ?%)?")


def html_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table with a head. Columns of figures are right-aligned, all others left-aligned."""
    cells = [list(line) for line in lines]
    figures = {at for at, column in enumerate(zip(*cells, strict=True)) if _is_figures(column)}
    top = "".join(f"<th {_style(name, at in figures)}>{escape_html(name)}</th>" for at, name in enumerate(head))
    rows = "".join(
        "<tr>"
        + "".join(f"<td {_style(cell, at in figures)}>{escape_html(cell)}</td>" for at, cell in enumerate(line))
        + "</tr>"
        for line in cells
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>"


def _is_figures(column: Sequence[str]) -> bool:
    """Return whether a column has only figures, gaps and unknown values."""
    known = [cell for cell in column if cell not in ("", "unknown", "<NA>", "nan", "None")]
    return bool(known) and all(_FIGURE.fullmatch(cell) for cell in known)


def _style(text: str, is_figure: bool) -> str:
    side = "right" if is_figure else "left"
    return f"style='text-align:{side}{f';{_ONE_LINE}' if len(text) <= _MOST_UNBROKEN else ''}'"


def text_table(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as aligned columns, each cell on one line."""
    cells = [[strip_control_chars(cell).replace("\n", " ") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def html_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Return named facts as a table, one per line."""
    rows = "".join(
        f"<tr><th {_LEFT}>{escape_html(name)}</th><td {_LEFT}>{escape_html(text)}</td></tr>" for name, text in facts
    )
    return f"<table>{rows}</table>"


def text_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Return named facts as text, one per line."""
    known = list(facts)
    width = max((len(name) for name, _ in known), default=0)
    return "\n".join(f"{name:<{width}}  {strip_control_chars(text)}" for name, text in known)


class HTMLFacts(ABC):
    """A mixin for objects that a notebook shows as a table of named facts."""

    __slots__ = ()

    @abstractmethod
    def _facts(self) -> Iterable[tuple[str, str]]:
        """Return names and texts, in order."""

    def _repr_html_(self) -> str:
        return html_facts(self._facts())
