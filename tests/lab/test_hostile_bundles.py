"""A bundle from a stranger: whatever is in it, it is refused in one sentence, and nothing of it outlives that."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import orjson
import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, StoreError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.runtime import RUNTIME

pytestmark = pytest.mark.timeout(60)  # a pipe is waited for by what opens it


class Mood(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as a stranger sends it, made once."""
    folder = tmp_path_factory.mktemp("sent")
    answers = {"answers": lambda request: {"mood": "good"}}
    pllm.configure(sim=answers, model="sim:openai", cache_dir=folder / "cache", progress=False)
    out = pd.DataFrame({"text": ["a", "b", "c"]}).llm.parse(Mood, "Read {text}", samples=2, agreement_column="agreed")
    out.llm.report(bundle=folder / "bundle", bundle_rows=True)
    RUNTIME.reset()
    run_registry.forget_all()
    return folder / "bundle"


@pytest.fixture
def bundle(sent: Path, cache_dir: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, which a test may change, and this person's own cache, which is empty."""
    shutil.copytree(sent, tmp_path / "bundle")
    pllm.configure(cache_dir=tmp_path / "own", progress=False)
    return tmp_path / "bundle"


def signed(bundle: Path) -> None:
    """Write the checksums of a bundle's files into its manifest, as whoever forges it can."""
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_bytes())
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))


def with_manifest(bundle: Path, **changes: Any) -> None:
    path = bundle / "bundle.json"
    manifest = {**json.loads(path.read_bytes()), **changes}
    path.write_text(json.dumps({name: value for name, value in manifest.items() if value is not ...}))


def with_header(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the header of the run's entry, and its checksum with it."""
    (path,) = (bundle / "runs").iterdir()
    line, _, rest = path.read_bytes().partition(b"\n")
    size = int(line.split()[2])
    header = orjson.loads(rest[:size])
    changed = change(header)
    encoded = orjson.dumps(header if changed is None else changed)
    checksum = zlib.crc32(encoded, zlib.crc32(b"1"))
    path.write_bytes(b"pllm-run 1 %d %d\n" % (len(encoded), checksum) + encoded + rest[size:])
    signed(bundle)


def refused(bundle: Path, match: str = "Nothing was imported") -> None:
    with pytest.raises((StoreError, UsageError), match=match):
        pllm.open_bundle(bundle)

    assert pllm.cache.info().entries == 0
    assert (len(pllm.runs()), len(pllm.labels())) == (0, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"run": ...}, {"run": 5}, {"run": "../../x"}, {"run": ["a"]}, {"rows": "3"}, {"rows": None},
        {"columns": ...}, {"columns": [1]}, {"library": 7}, {"holds_rows": "yes"}, {"holds_rows": ...}, {"files": None},
        {"files": ...}, {"corrected": None}, {"corrected": {"mood": [1]}}, {"corrected": {"mood": {"-1": "bad"}}},
        {"corrected": {"mood": {"3": "bad"}}}, {"corrected": {"mood": {"x": "bad"}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_that_says_what_none_says_is_refused(bundle: Path, changes: dict[str, Any]) -> None:
    with_manifest(bundle, **changes)

    refused(bundle)


def put(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header.update(fields)


def lacking(*names: str) -> Callable[[dict[str, Any]], None]:
    return lambda header: [header.pop(name) for name in names] and None


def with_arrays(change: Callable[[list[Any]], None]) -> Callable[[dict[str, Any]], None]:
    def changed(header: dict[str, Any]) -> None:
        for listed in header["arrays"]:
            change(listed)

    return changed


HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no object": lambda header: [1],
    "a way out": put(id="../../../outside"),
    "another id": put(id="0" * 12),
    "no id": lacking("id"),
    "no beginning": put(started_at=None),
    "a beginning beyond all years": put(started_at=1e300),
    "a state of another type": put(state=["done"]),
    "options that are none": put(options=[1]),
    "columns that are none": put(made=[{"name": 1}]),
    "a kind of column that is none": put(made=[{"name": "mood", "kind": "evil", "categories": []}]),
    "a shape that is none": put(shaping={"evil": 1}),
    "columns that were asked": put(asked=[1]),
    "counts as text": put(answered="3"),
    "no money": put(cost_usd="free"),
    "nothing": lambda header: {name: header[name] for name in ("id", "started_at", "arrays")},
    "no arrays": lacking("arrays"),
    "objects in an array": with_arrays(lambda listed: listed.__setitem__(1, "|O")),
    "an array beyond all memory": with_arrays(lambda listed: listed.__setitem__(2, [2**40])),
    "an array of another length": with_arrays(lambda listed: listed.__setitem__(2, [1])),
    "an array without an axis": with_arrays(lambda listed: listed.__setitem__(2, [])),
    "an array below zero": with_arrays(lambda listed: listed.__setitem__(2, [-1])),
    "names for arrays": with_arrays(lambda listed: listed.__setitem__(0, 5)),
    "other names for arrays": with_arrays(lambda listed: listed.__setitem__(0, "x")),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_an_entry_of_a_run_that_no_run_has_written_is_refused(bundle: Path, name: str) -> None:
    with_header(bundle, HEADERS[name])
    if name == "another id":
        (path,) = (bundle / "runs").iterdir()
        path.rename(path.with_name(f"{path.name.partition('-')[0]}-{'0' * 12}.run"))

    refused(bundle)
    assert not list(bundle.parent.rglob("outside*"))


DEEP: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a schema that is none": put(schema=5),
    "fields that are not there": put(fields=["mood", "more"]),
    "members that are none": lambda header: header["ensemble"].update(members=[[1]]),
    "an ensemble of something else": put(ensemble={"evil": 1}),
    "a dialect that nobody has": put(dialect="klingon"),
}


@pytest.mark.parametrize("name", DEEP)
def test_a_run_that_cannot_be_read_leaves_no_entry_in_the_registry(bundle: Path, name: str) -> None:
    with_header(bundle, DEEP[name])

    try:
        frame = pllm.open_bundle(bundle)
    except PllmError:
        assert len(pllm.runs()) == 0
    else:  # it is read by what it says elsewhere
        assert frame["mood"].tolist() == ["good"] * 3


def test_a_few_bytes_that_unfold_to_gigabytes_are_refused(bundle: Path) -> None:
    bomb = zlib.compress(bytes(2**26), 9)
    (path,) = (bundle / "runs").iterdir()
    line, _, rest = path.read_bytes().partition(b"\n")
    header = orjson.loads(rest[: int(line.split()[2])])
    header["arrays"] = [["content", "<u8", [3], len(bomb), True]]
    encoded = orjson.dumps(header)
    head = b"pllm-run 1 %d %d\n" % (len(encoded), zlib.crc32(encoded, zlib.crc32(b"1")))
    path.write_bytes(head + encoded + bomb + zlib.crc32(bomb).to_bytes(4, "little"))
    signed(bundle)

    refused(bundle)


@pytest.mark.parametrize("name", ["bundle.json", "replies.jsonl.gz", "labels.csv", "rows.parquet", "run"])
@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_a_file_that_is_none_is_refused_unopened(bundle: Path, name: str, kind: str) -> None:
    path = next((bundle / "runs").iterdir()) if name == "run" else bundle / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()

    refused(bundle, "not a regular file")


LABELS = {
    "columns that are none": ("columns", "5"),
    "a hash beyond 64 bits": ("content", "f" * 40),
    "a hash below zero": ("content", "-5"),
    "a chance above one": ("pi", "7"),
    "no chance": ("pi", "nan"),
    "a value that is no JSON": ("value", "{"),
    "a moment that is none": ("when", "soon"),
    "a moment before all others": ("when", "0001-01-01T00:00:00"),
    "cells that are none": ("row", "[1]"),
    "a cell that is too long": ("note", "x" * 200_000),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_can_be_none_are_refused(bundle: Path, name: str) -> None:
    column, cell = LABELS[name]
    line = {
        "when": "2026-01-01T00:00:00+00:00", "field": "mood", "value": '"good"', "by": "me", "drawn_by": "", "pi": "",
        "note": "", "run": "", "row": "", "columns": '["text"]', "content": "ff",
    } | {column: cell}  # fmt: skip
    pd.DataFrame([line]).to_csv(bundle / "labels.csv", index=False)
    signed(bundle)

    refused(bundle, "Nothing was (stored|imported)")
    with pytest.raises(UsageError, match="Nothing was stored"):
        pllm.labels.import_(bundle / "labels.csv")
    assert len(pllm.labels()) == 0


def test_rows_that_are_no_parquet_are_refused(bundle: Path) -> None:
    (bundle / "rows.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    signed(bundle)

    refused(bundle)


def test_replies_that_are_none_are_refused(bundle: Path) -> None:
    (bundle / "replies.jsonl.gz").write_bytes(b"hello")
    signed(bundle)

    refused(bundle)


def zipped(bundle: Path) -> Path:
    path = bundle.parent / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for one in bundle.rglob("*"):
            archive.write(one, one.relative_to(bundle))
    return path


@pytest.mark.parametrize("how", ["password", "method", "checksum", "no end"])
def test_an_archive_that_cannot_be_unpacked_is_refused(bundle: Path, how: str) -> None:
    path = zipped(bundle)
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    if how == "password":
        content[6] |= 1
        content[directory + 8] |= 1
    elif how == "method":
        content[8], content[directory + 10] = 99, 99
    elif how == "checksum":
        content[directory + 16] ^= 1
    else:
        del content[-10:]
    path.write_bytes(content)

    refused(path)


def test_a_link_in_an_archive_is_a_file_with_its_text(bundle: Path) -> None:
    (bundle / "labels.csv").unlink()
    path = zipped(bundle)
    link = zipfile.ZipInfo("labels.csv")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")

    refused(path, "labels.csv is not what was written")
