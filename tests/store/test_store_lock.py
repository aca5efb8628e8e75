from __future__ import annotations

from pathlib import Path

import pytest

from pllm_notebook.store.lock import Busy, held


def test_writers_share_and_an_opener_is_alone(tmp_path: Path) -> None:
    with held(str(tmp_path), alone=False, patience_s=0):
        with held(str(tmp_path), alone=False, patience_s=0):
            pass
        with pytest.raises(Busy), held(str(tmp_path), alone=True, patience_s=0):
            pass
    with (
        held(str(tmp_path), alone=True, patience_s=0),
        pytest.raises(Busy),
        held(str(tmp_path), alone=False, patience_s=0),
    ):
        pass


def test_no_writer_comes_in_while_an_opener_waits(tmp_path: Path) -> None:
    first = held(str(tmp_path), alone=False, patience_s=0)
    first.__enter__()

    def meanwhile(seconds: float) -> None:
        with pytest.raises(Busy), held(str(tmp_path), alone=False, patience_s=0):
            pass
        first.__exit__(None, None, None)

    with held(str(tmp_path), alone=True, patience_s=1, sleep=meanwhile):
        pass
