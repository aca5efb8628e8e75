"""Deterministic pseudo-random numbers, drawn from hashes of seed and prompt."""

from __future__ import annotations

from hashlib import blake2b
from statistics import NormalDist
from typing import TypeVar

__all__ = ["Draws", "digest", "normal", "share"]

T = TypeVar("T")
_BLOCK = 64
_NORMAL = NormalDist()


class Draws:
    """An endless stream of numbers determined by *key*.

    Uses hash blocks rather than `random.Random`, whose seeding takes as long as a whole answer (10 µs).
    """

    __slots__ = ("_block", "_key", "_position", "_turn")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._block = blake2b(key).digest()
        self._position = 0
        self._turn = 0

    def below(self, n: int) -> int:
        """Return an integer from 0 to n - 1."""
        size = 4 if n <= 1 << 24 else 8 + n.bit_length() // 8
        return int.from_bytes(self._take(size), "big") % n

    def unit(self) -> float:
        """Return a number in [0, 1)."""
        return (int.from_bytes(self._take(8), "big") >> 11) / (1 << 53)

    def pick(self, items: list[T] | tuple[T, ...]) -> T:
        """Return one of *items*."""
        return items[self.below(len(items))]

    def hex(self, digits: int) -> str:
        """Return a string of *digits* hex digits."""
        return self._take((digits + 1) // 2).hex()[:digits]

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if end > _BLOCK:
            self._turn += 1
            # A number wider than a block is drawn from one block.
            self._block = blake2b(self._key + self._turn.to_bytes(4, "big")).digest()
            self._position, end = 0, min(size, _BLOCK)
        part = self._block[self._position : end]
        self._position = end
        return part


def digest(seed: int, *parts: bytes) -> bytes:
    """Return a 16-byte digest of the seed and the parts, including the boundaries between the parts."""
    total = blake2b(digest_size=16, key=seed.to_bytes(16, "big", signed=True) if seed else b"")
    for part in parts:
        total.update(len(part).to_bytes(4, "big"))
        total.update(part)
    return total.digest()


def share(key: bytes, purpose: bytes) -> float:
    """Return the number in [0, 1) determined by *key* and *purpose*."""
    return (int.from_bytes(blake2b(key + purpose, digest_size=8).digest(), "big") >> 11) / (1 << 53)


def normal(u: float) -> float:
    """Return the standard normal quantile of *u*."""
    return _NORMAL.inv_cdf(min(max(u, 1e-9), 1 - 1e-9))
