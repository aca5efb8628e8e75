"""The byte format of an entry in the store, with a checksum that detects damage.

    magic   2  b"P" and the format's version
    crc32   4  of everything after it
    finish  1  0 complete, 1 truncated, 2 refused, 3 filtered, 4 called, 5 unfinished
    flags   1  bit 0: the payload is compressed with zlib; bit 1: the entry was validated when it was written
    output_tokens, output_limit, meta_len, text_len   4 each
    payload    meta, then text, then raw

Numbers are little-endian. Reading an entry cannot run code: its parts are bytes, numbers and JSON.
"""

from __future__ import annotations

import struct
import zlib

from pllm_notebook.exceptions import UnsafeEntryError
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish

__all__ = ["COMPRESS_ABOVE_BYTES", "DamagedEntry", "NewerEntry", "pack", "unpack"]

COMPRESS_ABOVE_BYTES = 4096
"""Payloads up to this size are not compressed: zlib would take longer than the disk."""

_HEAD = struct.Struct("<2sIBBIIII")
_BODY = struct.Struct("<BBIIII")
_MAGIC = b"P1"
_COMPRESSED = 1
# A warm run reads 100,000 entries, and decoding the metadata of each would take a tenth of its time.
# An entry without this flag (from an earlier version or another program) is validated when it is read.
_SOUND = 2
# In the order of their codes on disk; add new ones at the end. A version that lacks a code treats the entry as damaged.
_FINISHES = (Finish.COMPLETE, Finish.TRUNCATED, Finish.REFUSED, Finish.FILTERED, Finish.CALLED, Finish.UNFINISHED)
_CODES = {finish: code for code, finish in enumerate(_FINISHES)}
_U32 = 2**32 - 1
# No provider sends a body near this size. Without a limit, a forged row could fill the memory when decompressed.
_DECOMPRESS_LIMIT_BYTES = 2**28

_unpack_head = _HEAD.unpack_from
_crc32 = zlib.crc32


class DamagedEntry(UnsafeEntryError):
    """The bytes have changed, or do not encode a reply. A reader counts the row as absent and reports it."""


class NewerEntry(UnsafeEntryError):
    """The bytes are intact, but in the format of a later version of this package.

    Attributes:
        version: The format's first two bytes, such as "P2".
    """

    def __init__(self, version: str) -> None:
        self.version = version
        super().__init__(
            f"The cache holds an entry of format {version!r}, and this version of pllm_notebook reads 'P1'. "
            f"Upgrade pllm_notebook, or use another cache directory. The entry was left as it is."
        )


def pack(entry: StoredReply) -> bytes:
    """Return the bytes of *entry*, with the payload compressed if that makes it shorter.

    Raises:
        UnsafeEntryError: If a number does not fit in 32 bits, or the payload is too long.
    """
    payload = b"".join((entry.meta, entry.text, entry.raw))
    flags = 0 if entry.fault else _SOUND
    if len(payload) > COMPRESS_ABOVE_BYTES:
        if len(payload) > _DECOMPRESS_LIMIT_BYTES:
            raise UnsafeEntryError(
                f"The reply has {len(payload):,} bytes, and one entry holds at most {_DECOMPRESS_LIMIT_BYTES:,}."
            )
        shorter = zlib.compress(payload, 1)
        if len(shorter) < len(payload):
            payload, flags = shorter, flags | _COMPRESSED
    tokens, limit = entry.output_tokens, entry.output_limit
    if not (0 <= tokens <= _U32 and 0 <= limit <= _U32):
        raise UnsafeEntryError(
            f"output_tokens {tokens!r} and output_limit {limit!r} must be from 0 to {_U32} to be stored."
        )
    body = _BODY.pack(_CODES[entry.finish], flags, tokens, limit, len(entry.meta), len(entry.text)) + payload
    return _MAGIC + _crc32(body).to_bytes(4, "little") + body


def unpack(value: bytes) -> StoredReply:
    """Check the checksum of *value* and return its entry.

    Raises:
        DamagedEntry: If the bytes are not as `pack` returned them, or their content cannot come from a reply.
        NewerEntry: If the bytes are intact and have the format of a later version.
    """
    try:
        magic, crc, code, flags, tokens, limit, meta_len, text_len = _unpack_head(value)
    except struct.error:
        raise DamagedEntry(f"An entry has {len(value)} bytes, fewer than its header.") from None
    if _crc32(value[6:]) != crc or magic != _MAGIC:
        # Later formats include the magic bytes in the checksum: one changed bit cannot make an entry look newer.
        if magic[:1] == b"P" and _crc32(magic + value[6:]) == crc:
            raise NewerEntry(magic.decode("latin-1"))
        raise DamagedEntry("An entry's checksum does not match.")
    text_at = 24 + meta_len
    raw_at = text_at + text_len
    if flags != _SOUND and flags != 0:
        value = value[:24] + _decompress(value, flags)
    # A slice past the end would be shortened silently.
    if raw_at > len(value) or code >= len(_FINISHES):
        raise DamagedEntry("An entry's lengths do not add up.")
    entry = StoredReply(_FINISHES[code], value[text_at:raw_at], tokens, limit, value[24:text_at], value[raw_at:])
    if not flags & _SOUND and (fault := entry.fault):
        raise DamagedEntry(f"An entry's checksum matches, but {fault}.")
    return entry


def _decompress(value: bytes, flags: int) -> bytes:
    if flags & ~_SOUND != _COMPRESSED:
        raise DamagedEntry(f"An entry has flags {flags}, which this package never writes.")
    unfolder = zlib.decompressobj()
    try:
        payload = unfolder.decompress(memoryview(value)[24:], _DECOMPRESS_LIMIT_BYTES)
    except zlib.error as error:
        raise DamagedEntry(f"An entry's payload cannot be decompressed: {error}.") from None
    if not unfolder.eof or unfolder.unused_data:
        raise DamagedEntry("An entry's payload is cut short or too long.")
    return payload
