"""The fenced blocks of a documentation page, and a shell that runs them as a notebook would."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

__all__ = ["PAGES", "ROOT", "RUN", "Block", "blocks", "one_shell"]

ROOT = Path(__file__).parent.parent
PAGES = [path for places in ("*.md", "docs/**/*.md", "skills/**/*.md") for path in sorted(ROOT.glob(places))]
# Languages whose blocks are run: Python, and cells with magics.
RUN = ("python", "ipython")

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: The word after the fence, "" for none.
        text: What is between the fences.
        line: Number of the block's first line in its page, from 1.
    """

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of *page*, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["text"], text.count("\n", 0, found.start()) + 2)
        for found in _FENCE.finditer(text)
    ]


@contextmanager
def one_shell() -> Iterator[InteractiveShell]:
    """Run cells in an IPython shell with a namespace of its own; `get_ipython()` finds it inside the block."""
    config = Config()
    config.HistoryManager.enabled = False
    main = sys.modules["__main__"]  # the shell puts its own module there
    shell: Any = InteractiveShell.instance(config=config)
    try:
        yield shell
    finally:
        InteractiveShell.clear_instance()
        sys.modules["__main__"] = main
