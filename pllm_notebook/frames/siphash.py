"""Text hashes identical to those of pandas, computed without pandas.

The registry of runs has stored pandas' hashes since its first version: SipHash-2-4 with a fixed key, followed by one
mixing step (`pandas.util.hash_array`). Users of other dataframe libraries should not have to load pandas for them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["sip_hashes"]

_Words = np.ndarray[Any, np.dtype[np.uint64]]

_KEY = struct.unpack("<2Q", b"0123456789123456")
_START = tuple(
    part ^ _KEY[at % 2]
    for at, part in enumerate((0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573))
)
_MASK = 2**64 - 1

_CHUNK = 20_000
"""Number of texts hashed at once. Their state fits into the processor's cache."""

_FEW = 24
"""With fewer texts than this, a step in numpy is slower than in plain Python."""


def sip_hashes(texts: Sequence[bytes]) -> _Words:
    """Return the result of `pandas.util.hash_array` for these bytes, or for the texts they encode; shape (n,)."""
    found = np.empty(len(texts), dtype=np.uint64)
    for start in range(0, len(texts), _CHUNK):
        found[start : start + _CHUNK] = _chunk_hashes(texts[start : start + _CHUNK])
    return _mixed(found)


def _chunk_hashes(texts: Sequence[bytes]) -> _Words:
    """Return SipHash-2-4 of some texts. Sorting them by length, longest first, keeps unfinished texts in one slice."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    words = np.frombuffer(b"".join([_padded(text) for text in texts]), dtype="<u8").astype(np.uint64)
    counts = lengths // 8 + 1
    starts = (np.cumsum(counts) - counts)[order]
    counts = counts[order]
    state = [np.full(len(texts), part, dtype=np.uint64) for part in _START]
    step, last = 0, int(counts[0]) if len(texts) else 0
    while step < last:
        active = int(np.searchsorted(-counts, -step, side="left"))  # texts with more than `step` words
        if active < _FEW and last - step > _FEW:
            break
        _compress([part[:active] for part in state], words[starts[:active] + step])
        step += 1
    for at in range(int(np.searchsorted(-counts, -step, side="left")) if step < last else 0):
        rest = words[int(starts[at]) + step : int(starts[at]) + int(counts[at])].tolist()
        for part, value in zip(state, _compressed([int(part[at]) for part in state], rest), strict=True):
            part[at] = value
    state[2] ^= np.uint64(0xFF)
    for _ in range(4):
        _round(state)
    found = np.empty(len(texts), dtype=np.uint64)
    found[order] = state[0] ^ state[1] ^ state[2] ^ state[3]
    return found


def _padded(text: bytes) -> bytes:
    """Return a text padded to whole words; the last byte is its length modulo 256."""
    size = len(text)
    return text + bytes(7 - size % 8) + bytes((size & 0xFF,))


def _compress(state: list[_Words], word: _Words) -> None:
    state[3] ^= word
    _round(state)
    _round(state)
    state[0] ^= word


def _round(state: list[_Words]) -> None:
    """Apply one SipRound to the state of all texts, in place."""
    a, b, c, d = state
    a += b
    _rotate(b, 13)
    b ^= a
    _rotate(a, 32)
    c += d
    _rotate(d, 16)
    d ^= c
    a += d
    _rotate(d, 21)
    d ^= a
    c += b
    _rotate(b, 17)
    b ^= c
    _rotate(c, 32)


def _rotate(part: _Words, bits: int) -> None:
    high = part >> np.uint64(64 - bits)
    part <<= np.uint64(bits)
    part |= high


def _compressed(state: Sequence[int], words: Sequence[int]) -> tuple[int, int, int, int]:
    """Return the state of one text after compressing more words."""
    a, b, c, d = state
    for word in words:
        d ^= word
        for _ in (0, 1):
            a = (a + b) & _MASK
            b = ((b << 13 | b >> 51) & _MASK) ^ a
            a = (a << 32 | a >> 32) & _MASK
            c = (c + d) & _MASK
            d = ((d << 16 | d >> 48) & _MASK) ^ c
            a = (a + d) & _MASK
            d = ((d << 21 | d >> 43) & _MASK) ^ a
            c = (c + b) & _MASK
            b = ((b << 17 | b >> 47) & _MASK) ^ c
            c = (c << 32 | c >> 32) & _MASK
        a ^= word
    return a, b, c, d


def _mixed(hashes: _Words) -> _Words:
    """Mix the hashes once more, as pandas does for every dtype."""
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    return hashes
