"""Files are exchanged whole, private, and nothing of a failed exchange stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pllm_notebook.files import create_private, make_private_directory, replacing, set_aside


def test_a_file_is_replaced_whole_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_bytes(b"old")

    with replacing(str(path)) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["notes.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_ends_early_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "notes.json"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(str(path)) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        interrupted()

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["notes.json"]


def test_a_private_file_is_created_once_and_never_emptied(tmp_path: Path) -> None:
    make_private_directory(str(tmp_path / "a" / "b"))
    path = tmp_path / "a" / "b" / "claims.db"

    assert create_private(str(path))
    path.write_bytes(b"kept")
    assert not create_private(str(path))

    assert path.read_bytes() == b"kept"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_renamed_and_one_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "list.db"
    path.write_bytes(b"damage")

    aside = set_aside(str(path), ".damaged")

    assert aside == f"{path}.damaged"
    assert Path(aside).read_bytes() == b"damage"
    assert set_aside(str(path), ".damaged") is None
