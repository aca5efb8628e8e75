from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pllm_notebook import settings
from pllm_notebook.store import DiskStore, close_stores


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory that a store may make."""
    return tmp_path / "cache"


@pytest.fixture
def store(path: Path) -> Iterator[DiskStore]:
    """An empty store in `path`."""
    store = DiskStore(str(path))
    yield store
    store.close()


@pytest.fixture(autouse=True)
def nobody_elses_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep every default place below `tmp_path`, and close what was opened."""
    monkeypatch.delenv("PLLM_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    settings.reset()
    yield
    settings.reset()
    close_stores()
