"""Examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import pllm_notebook

_PACKAGE = Path(pllm_notebook.__file__).parent
_MODULES = sorted(
    ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in _PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_some_docstrings_have_examples() -> None:
    assert "pllm_notebook.formatting" in _MODULES


@pytest.mark.parametrize("name", _MODULES)
def test_examples_in_docstrings_run_and_give_what_they_show(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))

    assert results.attempted > 0
    assert results.failed == 0
