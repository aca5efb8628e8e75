"""Which directory is used, and what happens where it cannot be written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import ROOT, fill, held_by

from pllm_notebook import settings
from pllm_notebook.exceptions import StoreError
from pllm_notebook.store import DiskStore, close_stores, location, open_store


def test_the_argument_counts_before_configure_before_the_environment_before_the_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert location.chosen_directory() == (str(tmp_path / "home" / "pllm_notebook"), False)

    monkeypatch.setenv("PLLM_CACHE_DIR", str(tmp_path / "environment"))
    assert location.chosen_directory() == (str(tmp_path / "environment"), True)

    settings.configure(cache_dir=tmp_path / "configured")
    assert location.chosen_directory() == (str(tmp_path / "configured"), True)
    assert location.chosen_directory("argument") == (str(tmp_path / "argument"), True)


def test_one_directory_has_one_store(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")

    first = open_store(str(tmp_path / "real"))

    assert open_store(str(tmp_path / "real")) is first
    assert open_store(str(tmp_path / "link")) is first
    assert open_store(str(tmp_path / "other")) is not first
    close_stores()
    assert open_store(str(tmp_path / "real")) is not first


def test_importing_the_package_opens_nothing() -> None:
    script = "import sys, pllm_notebook.store; print([m for m in ('diskcache', 'platformdirs') if m in sys.modules])"

    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )

    assert output.stdout == "[]\n", output.stderr


def test_an_unwritable_default_gives_way_to_the_working_directory_and_then_to_a_temporary_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = str(tmp_path / "home" / "pllm_notebook")
    here = str(tmp_path / ".pllm")

    assert location.choose_location(home, False, can_write=lambda path: path != home) == location.StoreLocation(here)
    assert "NOT DURABLE" not in caplog.text

    last = location.choose_location(home, False, can_write=lambda path: False)
    assert not last.durable
    assert stat.S_IMODE(os.stat(last.directory).st_mode) == 0o700
    assert "which is NOT DURABLE" in caplog.text
    os.rmdir(last.directory)


def test_where_nothing_at_all_can_be_written_a_cache_is_read_where_it_is(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(first := DiskStore(str(path)), range(3))
    first.close()

    def no_place(**about: object) -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(location.tempfile, "mkdtemp", no_place)
    settled = location.choose_location(str(path), True, can_write=lambda directory: False)

    assert settled == location.StoreLocation(str(path))
    with pytest.raises(StoreError, match=r"absent cannot be written: answers can go nowhere else.*Nothing was sent\.$"):
        location.choose_location(str(tmp_path / "absent"), False, can_write=lambda directory: False)


def test_a_directory_that_a_person_named_is_not_exchanged_for_another(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(
        StoreError, match=r"file/below cannot be written or created, since .*/file is a file, not a directory\. Name"
    ):
        open_store(str(tmp_path / "file" / "below"))


def test_a_read_only_cache_is_read_and_new_answers_go_elsewhere(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = DiskStore(str(path))
    fill(shared, range(10))
    shared.close()
    before = {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}

    # Permissions do not stop root, so the opener is told instead; the next test asks the system.
    settled = location.choose_location(str(path), True, can_write=lambda directory: directory != str(path))
    store = DiskStore(settled.directory, below=settled.below)
    fill(store, range(8, 12))

    assert held_by(store, range(20)) == set(range(12))
    assert len(list(store.iterate())) == 12
    assert f"The cache directory {path} is read-only: its answers are used, and new ones go to" in caplog.text
    assert len(caplog.records) == 1
    assert {name: (path / name).read_bytes() for name in before} == before
    store.close()


# Root may write anywhere, so the child gives up being root, after it has loaded all that it needs.
UNPRIVILEGED = """
import os, sys
from store_cases import fill, held_by
from pllm_notebook.store import open_store
import pllm_notebook.store.failure_log, pllm_notebook.store.recovery, platformdirs, platformdirs.unix
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
store = open_store(sys.argv[1])
fill(store, [50])
print(store.directory == sys.argv[2] + "/pllm_notebook", sorted(held_by(store, range(100))))
"""


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that every user can enter, as nobody can pytest's own."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def test_a_directory_without_permission_to_write_is_only_read(open_to_all: Path) -> None:
    path, home = open_to_all / "cache", open_to_all / "theirs"
    shared = DiskStore(str(path))
    fill(shared, range(3))
    shared.close()
    home.mkdir()
    home.chmod(0o777)
    for file in path.rglob("*"):
        file.chmod(0o555 if file.is_dir() else 0o444)
    path.chmod(0o555)

    output = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(path), str(home)],
        capture_output=True,
        text=True,
        cwd="/",
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
            "XDG_CACHE_HOME": str(home),
        },
    )
    for folder in (path, path / "answers"):
        folder.chmod(0o700)

    assert output.stdout == "True [0, 1, 2, 50]\n", output.stderr
    assert output.stderr.count("is read-only") == 1


def test_a_network_file_system_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"rootfs / ext4 rw 0 0\nserver:/export {tmp_path} nfs4 rw 0 0\nserver:/other {tmp_path}/a\\040b cifs rw 0 0\n"
    )

    assert location.file_system("/nowhere", str(mounts)) == "ext4"
    assert location.file_system(str(tmp_path / "a b" / "c"), str(mounts)) == "cifs"
    kind = location.file_system(str(tmp_path / "cache"), str(mounts))
    location.warn_of_network(str(tmp_path / "cache"), kind)
    location.warn_of_network(str(tmp_path / "cache"), kind)
    location.warn_of_network("/nowhere", "ext4")

    (record,) = caplog.records
    assert record.getMessage() == (
        f"The cache directory {tmp_path}/cache is on a network file system (nfs4), where SQLite's locks cannot be "
        f"trusted and answers can be lost. Set PLLM_CACHE_DIR to a directory on a local disk."
    )
