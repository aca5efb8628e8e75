"""Entries whose checksum holds and that no reply can have brought: each counts as damaged, and nothing raises."""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any

import orjson
import pytest

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.exceptions import StoreError
from pllm_notebook.execution import live_of
from pllm_notebook.sim import Simulator
from pllm_notebook.store import DiskStore, close_stores, open_store
from pllm_notebook.store.codec import DamagedEntry, pack, unpack
from pllm_notebook.store.export_file import _checksum
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish
from tests.faults.asking import ask, rows

COUNT = 6
FACTS: list[dict[str, Any]] = [
    {"usage": 3},
    {"usage": "9"},
    {"usage": []},
    {"usage": [1, 2, 3]},
    {"usage": [1, 2, 3, 4, 5, 6]},
    {"usage": [1, 2, 3, 4, "5"]},
    {"usage": [1, 2, 3, 4, True]},
    {"usage": [-1, 2, 3, 4, 5]},
    {"usage": [1.5, 2, 3, 4, 5]},
    {"usage": {"input_tokens": 3}},
    {"cost_usd": "0.1"},
    {"cost_usd": -1},
    {"cost_usd": True},
    {"cost_usd": [0.1]},
    {"model": None},
    {"model": 5},
    {"asked": ["openai", "gpt"]},
    {"asked": None},
    {"request_id": {}},
    {"detail": 1},
    {"detail": None},
    {"latency_s": "slow"},
    {"latency_s": None},
    {"latency_s": -0.5},
    {"attempts": None},
    {"attempts": 1.5},
    {"attempts": -1},
    {"created_at": "yesterday"},
    {"created_at": None},
    {"created_at": 1e30},
    {"created_at": -5},
    {"created_at": [1]},
    {"calls": 7},
    {"calls": [["1", "look"]]},
    {"calls": [["1", "look", {"at": 1}]]},
    {"calls": {"1": "look"}},
    {"pack": "four"},
    {"pack_id": 4},
    {"pack_cost_usd": "much"},
    {"tool": "look"},
    {"tool": {"name": "look"}},
    {"tool": {"name": "look", "content": 3, "failed": False}},
    {"tool": {"name": "look", "content": "", "failed": "no"}},
]
METAS = [b"", b"null", b"[]", b"3", b'"usage"', b"{", b"\xff", b"{}{}"]


def told(fact: dict[str, Any]) -> bytes:
    metadata = {
        "usage": [9, 3, 0, 0, 0], "cost_usd": 0.5, "model": "m", "asked": "openai:m", "request_id": "r", "detail": "",
        "latency_s": 0.1, "attempts": 1, "created_at": 1000.0,
    }  # fmt: skip
    return orjson.dumps(metadata | fact)


def odd_entries() -> list[Any]:
    made = [(f"{fact}", Finish.COMPLETE, b"{}", told(fact)) for fact in FACTS]
    made += [(f"{meta!r}", Finish.COMPLETE, b"{}", meta) for meta in METAS]
    made += [
        ("text", Finish.COMPLETE, b"\xff\xfe", told({})),
        ("no calls", Finish.CALLED, b"", told({})),
        ("empty calls", Finish.CALLED, b"", told({"calls": []})),
        ("truncated", Finish.TRUNCATED, b"{", told({"usage": "x"})),
        ("refused", Finish.REFUSED, b"", told({"detail": 5})),
        ("unfinished", Finish.UNFINISHED, b"", told({"attempts": "x"})),
    ]
    return [pytest.param(StoredReply(finish, text, 3, 0, meta, b"{}"), id=name) for name, finish, text, meta in made]


ODD = pytest.mark.parametrize("odd", odd_entries())


@ODD
def test_an_odd_entry_is_a_damaged_one(odd: StoredReply) -> None:
    with pytest.raises(DamagedEntry, match=r"checksum matches, but it"):
        unpack(pack(odd))


@ODD
def test_what_is_known_of_an_odd_entry_is_of_its_own_type(odd: StoredReply) -> None:
    metadata = odd.metadata

    assert metadata["usage"] is None or len(metadata["usage"]) == 5
    assert metadata["cost_usd"] is None or metadata["cost_usd"] >= 0
    assert all(isinstance(metadata[name], str) for name in ("model", "asked", "request_id", "detail"))
    assert metadata["attempts"] + metadata["latency_s"] + metadata["created_at"] >= 0
    assert odd.usage is None or odd.usage.total_tokens >= 0
    assert isinstance(odd.calls, tuple)


@ODD
def test_an_odd_entry_of_an_export_is_not_imported(odd: StoredReply, tmp_path: Path) -> None:
    key = "a" * 43
    written = {
        "key": key, "finish": odd.finish.value, "output_tokens": 3, "output_limit": 0,
        "text": {"base64": b64encode(odd.text).decode()},
        "meta": {"base64": b64encode(odd.meta).decode()}, "raw": "{}",
        "crc32": _checksum(key, odd),
    }  # fmt: skip
    lines = [{"format": "pllm_notebook cache", "version": 1}, written, {"entries": 1}]
    path = tmp_path / "export.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(orjson.dumps(line) + b"\n" for line in lines)))
    store = DiskStore(str(tmp_path / "cache"))

    with pytest.raises(StoreError, match=r"^Entry 1 of .* cannot be a reply: it.* It was not imported\.$"):
        pllm.cache.__class__(lambda: store).import_(path)

    assert store.get_many([key]) == {}
    store.close()


def test_rows_with_odd_entries_are_asked_again_and_nothing_raises(
    sim: Simulator, address: str, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [param.values[0] for param in odd_entries()]
    first = ask(rows(len(odd)))
    first.wait()
    keys = list(live_of(first).table.keys)
    with_odd = dict(zip(keys, odd, strict=True))
    errors: list[BaseException | None] = []
    for key, one in with_odd.items():
        open_store().put(key, one, errors.append)
    open_store().flush()
    engine.shutdown()
    close_stores()
    sim.reset()
    caplog.clear()

    assert pllm.cache.info().entries == 0
    assert len(caplog.records) == 1
    assert pllm.cache.check().damaged == len(odd)
    assert pllm.cache.clear(model="openai:nothing") == 0
    assert pllm.cache.export(cache_dir / "out.jsonl.gz") == 0
    caplog.clear()
    out = ask(rows(len(odd))).result()

    assert out["number"].tolist() == list(range(len(odd)))
    assert sim.stats().requests == len(odd)
    assert len(caplog.records) == 1
    assert f"{len(odd)} entries of the cache" in caplog.text
    assert out.llm.usage["attempts"].tolist() == [1] * len(odd)
    assert out.llm.explain(0).usage is not None
    assert pllm.cache.info().entries == len(odd)


def marked_sound(odd: StoredReply) -> bytes:
    """As somebody would write it who wants to be believed."""
    value = pack(odd)
    body = value[6:7] + bytes([value[7] | 2]) + value[8:]
    return b"P1" + zlib.crc32(body).to_bytes(4, "little") + body


def test_an_odd_entry_that_says_it_is_sound_ends_no_run(
    sim: Simulator, address: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [param.values[0] for param in odd_entries()]
    first = ask(rows(len(odd)))
    first.wait()
    store = open_store()
    monkeypatch.setattr("pllm_notebook.store.writer.pack", marked_sound)
    errors: list[BaseException | None] = []
    for key, one in zip(live_of(first).table.keys, odd, strict=True):
        store.put(key, one, errors.append)
    store.flush()
    monkeypatch.undo()
    engine.shutdown()
    close_stores()

    with pytest.warns(UserWarning, match="rows failed"):  # what they say is no answer
        out = ask(rows(len(odd)), max_repairs=0).result()  # a repair's prompt does not name its row

    assert pllm.cache.info().entries == len(odd)
    assert len(out.llm.usage) == len(out.llm.status) == len(odd)
    assert all(out.llm.explain(row) is not None for row in range(len(odd)))
    assert pllm.cache.clear(model="openai:nothing") == 0
