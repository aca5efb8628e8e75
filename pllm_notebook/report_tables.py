"""Small tables as a person reads them: aligned text, and HTML whose cells are escaped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from pllm_notebook.formatting import escape_html, strip_control_chars

__all__ = ["HTMLFacts", "html_facts", "html_table", "text_facts", "text_table"]

_LEFT = "style='text-align:left'"


def html_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table with a head, all cells aligned left."""
    top = "".join(f"<th {_LEFT}>{escape_html(cell)}</th>" for cell in head)
    rows = "".join(
        "<tr>" + "".join(f"<td {_LEFT}>{escape_html(cell)}</td>" for cell in line) + "</tr>" for line in lines
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>"


def text_table(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as aligned columns, a cell on one line each."""
    cells = [[strip_control_chars(cell).replace("\n", " ") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def html_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Return named facts as a table, one a line."""
    rows = "".join(
        f"<tr><th {_LEFT}>{escape_html(name)}</th><td {_LEFT}>{escape_html(text)}</td></tr>" for name, text in facts
    )
    return f"<table>{rows}</table>"


def text_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Return named facts as text, one a line."""
    known = list(facts)
    width = max((len(name) for name, _ in known), default=0)
    return "\n".join(f"{name:<{width}}  {strip_control_chars(text)}" for name, text in known)


class HTMLFacts(ABC):
    """A mixin for what a notebook shows as a table of named facts."""

    __slots__ = ()

    @abstractmethod
    def _facts(self) -> Iterable[tuple[str, str]]:
        """Return names and texts, in order."""

    def _repr_html_(self) -> str:
        return html_facts(self._facts())
