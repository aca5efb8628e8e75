"""The package's files, parsed once for all tests of one process."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

__all__ = ["PACKAGE", "ROOT", "files"]

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pllm_notebook"


@cache
def files() -> dict[str, ast.Module]:
    """Return every file of the package, parsed, by its path inside it."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
