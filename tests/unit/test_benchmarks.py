"""The benchmarks belong to no other test: that they can be begun is seen here, and nothing is measured."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# What a program draws with is no part of the development environment everywhere.
NAMES = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem not in ("__init__", "chart"))


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_finds_all_that_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    known = set(sys.modules)
    spec = importlib.util.spec_from_file_location(f"begun_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)

    spec.loader.exec_module(module)

    for added in set(sys.modules) - known:
        if getattr(sys.modules[added], "__file__", None) and str(BENCHMARKS) in str(sys.modules[added].__file__):
            monkeypatch.delitem(sys.modules, added, raising=False)
