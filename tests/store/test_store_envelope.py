from __future__ import annotations

import os
import zlib

import pytest
from store_cases import entry, of_a_later_format, parts

from pllm_notebook.exceptions import UnsafeEntryError
from pllm_notebook.store.codec import COMPRESS_ABOVE_BYTES, DamagedEntry, NewerEntry, pack, unpack
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish


@pytest.mark.parametrize("finish", list(Finish))
@pytest.mark.parametrize("size", [0, 1, 1000, COMPRESS_ABOVE_BYTES + 1, 300_000])
def test_what_was_packed_is_read_to_the_byte(finish: Finish, size: int) -> None:
    for raw in (os.urandom(size), b"x" * size):
        meta = b'{"calls": [["1", "look", "{}"]]}'
        one = StoredReply(finish, "\u00ff\x00text".encode(), 2**32 - 1, 7, meta, raw)

        assert parts(unpack(pack(one))) == parts(one)


def test_only_what_is_long_and_gets_shorter_is_compressed() -> None:
    def packed(raw: bytes) -> int:
        return len(pack(StoredReply(Finish.COMPLETE, b"", 0, 0, b"{}", raw)))

    longest = COMPRESS_ABOVE_BYTES - len(b"{}")

    assert packed(b"x" * longest) == packed(b"") + longest
    assert packed(b"x" * (longest + 1)) < 200
    assert packed(os.urandom(9000)) == packed(b"") + 9000


@pytest.mark.parametrize("raw", [b"short", b"long" * 4000])
def test_every_changed_byte_and_every_cut_is_seen(raw: bytes) -> None:
    value = pack(entry(raw=raw))

    for at in range(len(value)):
        with pytest.raises(UnsafeEntryError):
            unpack(value[:at] + bytes([value[at] ^ 0x41]) + value[at + 1 :])
        with pytest.raises(DamagedEntry):
            unpack(value[:at])


def test_a_whole_entry_of_a_later_version_is_refused_by_name() -> None:
    value = of_a_later_format(pack(entry()))

    with pytest.raises(NewerEntry) as caught:
        unpack(value)

    assert str(caught.value) == (
        "The cache holds an entry of format 'P2', and this version of pllm_notebook reads 'P1'. "
        "Upgrade pllm_notebook, or use another cache directory. The entry was left as it is."
    )


def test_a_forged_payload_cannot_unfold_to_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pllm_notebook.store.codec._DECOMPRESS_LIMIT_BYTES", 10_000)
    body = bytes([0, 1]) + bytes(16) + zlib.compress(bytes(1_000_000))

    with pytest.raises(DamagedEntry, match="cut short or too long"):
        unpack(b"P1" + zlib.crc32(body).to_bytes(4, "little") + body)


def test_lengths_past_the_end_are_damage_though_the_checksum_holds() -> None:
    body = bytes([0, 0]) + bytes(8) + (50).to_bytes(4, "little") + (50).to_bytes(4, "little") + b"short"

    with pytest.raises(DamagedEntry, match="lengths"):
        unpack(b"P1" + zlib.crc32(body).to_bytes(4, "little") + body)


@pytest.mark.parametrize("bit", range(16))
def test_a_changed_bit_of_the_mark_is_damage_and_no_later_format(bit: int) -> None:
    value = bytearray(pack(entry()))
    value[bit // 8] ^= 1 << bit % 8

    with pytest.raises(DamagedEntry):
        unpack(bytes(value))
