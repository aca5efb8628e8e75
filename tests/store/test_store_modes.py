"""Whatever is written is for its owner alone, however open the process's own mask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.sim import SimAnswer, Simulator
from pllm_notebook.store import close_stores


@pytest.fixture
def no_mask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """Give the mode of a directory and of all that is in it."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # a file that is written under another name first
            found[str(path.relative_to(folder))] = oct(stat.S_IMODE(path.lstat().st_mode))
    return found


@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_every_file_of_a_whole_session_is_for_its_owner_alone(
    no_mask: None, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any-key")
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url("openai"))
    sim.set(requests_per_min=6000, answers=lambda request: SimAnswer.status(400) if "bad" in request.prompt else "yes")
    frame = pd.DataFrame({"t": ["a", "bad"]})

    frame.llm.complete("{t}", model="openai:gpt-6-luna")
    in_use = modes(cache_dir)
    engine.shutdown()
    pllm.cache.export(cache_dir / "export")
    close_stores()
    database = cache_dir / "answers/cache.db"
    database.write_bytes(b"damage" + database.read_bytes()[6:])
    frame.llm.complete("{t}", model="openai:gpt-6-luna")
    after = modes(cache_dir)

    assert {"answers/cache.db", "answers/cache.db-wal", "failures.db", "limits.json", "export"} <= {*in_use, *after}
    assert any(name.startswith("answers/cache.db.damaged-") for name in after)
    for found in (in_use, after):
        assert {found.pop(folder) for folder in (".", "answers", "runs")} == {"0o700"}
        assert set(found.values()) == {"0o600"}
