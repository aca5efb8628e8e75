"""The registry of runs on disk: whole or as before, damage costs one run, and never more room than it may take."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pllm_notebook.exceptions import StoreError
from pllm_notebook.store.run_files import RunFiles


def header(number: int) -> dict[str, Any]:
    return {"id": f"{number:08x}", "started_at": 1_000_000.0 + number, "label": "Réview"}


def arrays(rows: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(seed)
    return {
        "content": draw.integers(0, 2**63, rows, dtype=np.uint64),
        "keys": draw.integers(0, 255, (rows, 16), dtype=np.uint8),
        "status": np.zeros(rows, dtype=np.uint8),
        "several": np.arange(rows) % 2 == 0,
        "agreement:a": np.full(rows, np.nan),
    }


def test_what_was_written_is_read(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))
    files.write(header(1))
    files.write(header(2) | {"state": "done"}, arrays(1_000))

    assert [one["id"] for one in files.headers()] == ["00000002", "00000001"]
    assert files.header("00000002") == header(2) | {"state": "done"}
    assert files.arrays("00000001") is None
    found = files.arrays("00000002")
    assert found is not None
    for name, array in arrays(1_000).items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_a_run_that_is_written_again_has_one_file(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))

    files.write(header(1) | {"state": "running"})
    files.write(header(1) | {"state": "done"}, arrays(3))

    assert [one["state"] for one in files.headers()] == ["done"]
    assert len(os.listdir(files.folder)) == 1


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))

    assert list(files.headers()) == []
    assert files.header("00000001") is None
    assert files.clear() == 0
    assert os.listdir(tmp_path) == []


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))
    files.write(header(1))

    (name,) = os.listdir(files.folder)
    assert os.stat(files.folder).st_mode & 0o777 == 0o700
    assert os.stat(os.path.join(files.folder, name)).st_mode & 0o777 == 0o600


def test_a_row_takes_no_more_than_its_hashes(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))

    files.write(header(1), {name: array for name, array in arrays(10_000).items() if name in ("content", "keys")})

    assert files.bytes_on_disk < 24 * 10_000 + 1_000


def test_columns_of_few_values_are_packed(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))

    files.write(header(1), {"answers": np.tile(np.array([3, 9], dtype=np.uint32), 50_000)})

    assert files.bytes_on_disk < 10_000


@pytest.mark.sample(70)
@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_file_is_set_aside_and_costs_its_run_alone(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    files = RunFiles(str(tmp_path))
    for number in range(3):
        files.write(header(number), arrays(50, number))
    name = sorted(os.listdir(files.folder))[1]
    path = Path(files.folder, name)
    draw = random.Random(seed)
    data = bytearray(path.read_bytes())
    if seed % 4 == 0:
        del data[draw.randrange(len(data)) :]
    else:
        at = draw.randrange(len(data))
        data[at] ^= 1 << draw.randrange(8)
    path.write_bytes(data)

    with caplog.at_level(logging.WARNING, "pllm_notebook.store"):
        found = [one["id"] for one in files.headers()]
        rows = files.arrays("00000001")

    assert {"00000000", "00000002"} <= set(found)
    whole = rows is not None and all(
        np.array_equal(rows[n], a, equal_nan=n[0] == "a") for n, a in arrays(50, 1).items()
    )
    assert rows is None or whole
    if not whole:
        assert len(caplog.records) == 1 or seed % 4 == 0
        assert "was set aside; its answers are unharmed" in caplog.text
        assert sorted(os.listdir(files.folder))[1] == name + ".damaged"
    files.write(header(1), arrays(5))
    assert files.header("00000001") is not None


def test_a_later_versions_file_is_left_alone(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))
    files.write(header(1))
    (name,) = os.listdir(files.folder)
    path = Path(files.folder, name)
    _, told = path.read_bytes().split(b"\n", 1)
    later = b"pllm-run 2 %d %d\n" % (len(told) - 4, zlib.crc32(told[:-4], zlib.crc32(b"2")))
    path.write_bytes(later + told)

    assert list(files.headers()) == []
    assert path.exists()


def test_the_oldest_runs_are_deleted_beyond_the_most(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path), max_runs=20)

    for number in range(100):
        files.write(header(number))

    kept = [int(one["id"], 16) for one in files.headers()]
    assert kept[0] == 99
    assert 20 <= len(kept) < 40


def test_the_oldest_runs_are_deleted_beyond_the_room(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path), largest_bytes=200_000)

    for number in range(64):
        files.write(header(number), arrays(1_000))

    assert files.bytes_on_disk < 200_000 + 16 * 40_000
    assert files.header(f"{63:08x}") is not None


def test_runs_are_cleared_by_their_age(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path), wall_clock=lambda: 1_000_010.0)
    for number in range(10):
        files.write(header(number))

    assert files.clear(older_than_s=5.0) == 6
    assert len(list(files.headers())) == 4
    assert files.clear() == 4


def test_a_record_that_cannot_be_deleted_is_told(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))
    for number in (1, 2, 3):
        files.write(header(number))
    (name,) = [name for name in os.listdir(files.folder) if name.endswith("00000002.run")]
    os.unlink(tmp_path / "runs" / name)
    (tmp_path / "runs" / name).mkdir()  # which cannot be deleted as a file, whoever asks

    with pytest.raises(StoreError, match=r"runs cannot be deleted: Is a directory\. 2 were deleted\.$"):
        files.clear()


def test_a_kill_at_any_moment_leaves_whole_files(tmp_path: Path) -> None:
    script = f"""
        import itertools, numpy as np
        from pllm_notebook.store.run_files import RunFiles
        files = RunFiles({str(tmp_path)!r})
        print("on", flush=True)
        for n in itertools.count():
            files.write({{"id": f"{{n % 5:08x}}", "started_at": float(n % 5), "n": n}},
                        {{"content": np.full(20_000, n, dtype=np.uint64)}})
    """
    for pause_s in (0.01, 0.03, 0.05):
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(pause_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()

        files = RunFiles(str(tmp_path))
        for one in files.headers():
            rows = files.arrays(one["id"])
            assert rows is not None
            assert set(rows["content"].tolist()) == {one["n"]}
    assert not [name for name in os.listdir(files.folder) if name.endswith(".damaged")]


def test_what_a_killed_process_left_half_written_is_swept(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))
    files.write(header(1))
    part = Path(files.folder, "0000-1.abcd.part")
    part.write_bytes(b"half")

    RunFiles(str(tmp_path)).write(header(2))
    assert part.exists()  # another process may be at it
    later = RunFiles(str(tmp_path), wall_clock=lambda: time.time() + 7_200)
    for number in range(3, 40):  # a folder is swept at the first of many writes
        later.write(header(number))

    assert not part.exists()
