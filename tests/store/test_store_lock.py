from __future__ import annotations

from pathlib import Path

import pytest

from pllm_notebook.store.lock import LockTimeout, directory_lock


def test_writers_share_and_an_opener_is_alone(tmp_path: Path) -> None:
    with directory_lock(str(tmp_path), alone=False, patience_s=0):
        with directory_lock(str(tmp_path), alone=False, patience_s=0):
            pass
        with pytest.raises(LockTimeout), directory_lock(str(tmp_path), alone=True, patience_s=0):
            pass
    with (
        directory_lock(str(tmp_path), alone=True, patience_s=0),
        pytest.raises(LockTimeout),
        directory_lock(str(tmp_path), alone=False, patience_s=0),
    ):
        pass


def test_no_writer_comes_in_while_an_opener_waits(tmp_path: Path) -> None:
    first = directory_lock(str(tmp_path), alone=False, patience_s=0)
    first.__enter__()

    def meanwhile(seconds: float) -> None:
        with pytest.raises(LockTimeout), directory_lock(str(tmp_path), alone=False, patience_s=0):
            pass
        first.__exit__(None, None, None)

    with directory_lock(str(tmp_path), alone=True, patience_s=1, sleep=meanwhile):
        pass
