"""The 27 cells of programs: what is asked for, by which strategy, of whom; and the table of them in docs/programs.md.

`python -m tests.contract.cells` writes that table anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, Side

__all__ = ["CELLS", "Cell", "page", "table", "with_table"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "programs.md"
STRATEGIES = ("sync", "async", "batch")
_SIDES = {"OpenAI": OPENAI, "Anthropic": ANTHROPIC, "Google": GOOGLE}
# The field of the request that carries what is asked for.
_FIELDS: Mapping[str, Mapping[str, str]] = {
    "text": {"OpenAI": "messages", "Anthropic": "messages", "Google": "contents"},
    "structured": {
        "OpenAI": "response_format",
        "Anthropic": "output_config",
        "Google": "generationConfig.responseJsonSchema",
    },
    "tools": {"OpenAI": "tools", "Anthropic": "tools", "Google": "tools"},
}
_TABLE = re.compile(r"\| asked for \|.*?\n\n", re.DOTALL)


@dataclass(frozen=True)
class Cell:
    """One way of asking.

    Attributes:
        kind: "text", "structured" or "tools".
        strategy: "sync", "async" or "batch".
        provider: As a person writes it.
        field: Dotted path of the request's field that carries what is asked for.
    """

    kind: str
    strategy: str
    provider: str
    field: str

    @property
    def side(self) -> Side:
        """How the provider is reached."""
        return _SIDES[self.provider]

    @property
    def id(self) -> str:
        """The cell's name."""
        return f"{self.kind}-{self.strategy}-{self.provider.lower()}"


CELLS = [
    Cell(kind, strategy, provider, field)
    for kind, fields in _FIELDS.items()
    for strategy in STRATEGIES
    for provider, field in fields.items()
]


def table() -> str:
    """Write the cells as the page has them."""
    lines = [f"| asked for | {' | '.join(_SIDES)} |", "| --- |" + " --- |" * len(_SIDES)]
    for kind in _FIELDS:
        told = []
        for provider in _SIDES:
            cells = [cell for cell in CELLS if (cell.kind, cell.provider) == (kind, provider)]
            told.append(f"`{cells[0].field}`: {', '.join(cell.strategy for cell in cells)}")
        lines.append(f"| {kind} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n\n"


def page() -> str:
    """Return the page as it is."""
    return PAGE.read_text(encoding="utf-8")


def with_table(text: str) -> str:
    """Return the page with the table as the cells have it."""
    return _TABLE.sub(lambda _: table(), text, count=1)


if __name__ == "__main__":
    PAGE.write_text(with_table(page()), encoding="utf-8")
