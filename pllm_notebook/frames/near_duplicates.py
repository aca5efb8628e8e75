"""Near-duplicate texts, groups of them, and the role of each group's rows among labels.

Two texts are near-duplicates if the sets of their three-letter pieces have a cosine of at least 0.9. Letter case,
punctuation and white space are ignored. The result depends only on the two texts, so it is the same in every frame,
process and release.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["ROLES", "Fingerprints", "near_duplicate_groups", "roles_of"]

NEAR = 0.9
"""The cosine from which two texts are near-duplicates."""

ROLES = ("examples", "validation", "test")
_UP_TO = (0.4, 0.7, 1.0)

_NO_WORD = re.compile(r"[\W_]+")
Pieces = np.ndarray[Any, np.dtype[np.uint64]]
_ONE, _TWO, _THREE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)


def _normal(text: str) -> str:
    # A text without letters is compared unchanged: two emojis are two texts.
    return _NO_WORD.sub(" ", text.casefold()).strip() or text.strip()


def _pieces(text: str) -> Pieces:
    """Return the distinct pieces of a text as sorted numbers."""
    encoded = f" {_normal(text)} ".encode("utf-32-le", "surrogatepass")
    codes: Pieces = np.frombuffer(encoded, dtype=np.uint32).astype(np.uint64)
    if len(codes) < 3:
        return codes[:1]
    return np.unique(codes[:-2] * _ONE ^ codes[1:-1] * _TWO ^ codes[2:] * _THREE)


class Fingerprints:
    """Texts that other texts are compared with."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._pieces = [_pieces(text) for text in texts]
        self._sizes = np.array([len(one) for one in self._pieces], dtype=np.float64)

    def near(self, text: str, among: Iterable[int] | None = None) -> list[int]:
        """Return the positions of the texts that are near-duplicates of *text*, in order.

        Args:
            text: Any text.
            among: Positions of the texts to compare with. None for all.
        """
        own = _pieces(text)
        # Sets whose sizes differ by more cannot have a cosine of NEAR.
        low, high = len(own) * NEAR**2, len(own) / NEAR**2
        fits = np.flatnonzero((self._sizes >= low - 1e-9) & (self._sizes <= high + 1e-9)).tolist()
        wanted = fits if among is None else [at for at in among if at in set(fits)]
        return [at for at in wanted if _cosine(own, self._pieces[at]) >= NEAR]


def _cosine(one: Pieces, other: Pieces) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / math.sqrt(len(one) * len(other)) + 1e-12


def near_duplicate_groups(texts: Sequence[str]) -> list[int]:
    """Return the number of each text's group. A group contains near-duplicates, their near-duplicates, and so on.

    The result is exact. Candidates are found by a filter on prefixes of the rarest pieces (Bayardo, Ma, Srikant,
    "Scaling up all pairs similarity search", 2007): two sets with a cosine of NEAR share a piece of their prefixes.
    """
    pieces = [_pieces(text) for text in texts]
    counts = Counter(piece for own in pieces for piece in own.tolist())
    parent = list(range(len(texts)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    holders: dict[int, list[int]] = defaultdict(list)
    for at, own in enumerate(pieces):
        ordered = sorted(own.tolist(), key=lambda piece: (counts[piece], piece))
        prefix = ordered[: len(ordered) - math.ceil(NEAR**2 * len(ordered) - 1e-9) + 1]
        for other in sorted({holder for piece in prefix for holder in holders[piece]}):
            if root(other) != root(at) and _cosine(own, pieces[other]) >= NEAR:
                parent[root(at)] = root(other)
        for piece in prefix:
            holders[piece].append(at)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(at), len(numbers)) for at in range(len(texts))]


def roles_of(texts: Sequence[str]) -> list[str]:
    """Return the role of each text: "examples" for 40 %, "validation" and "test" for 30 % each.

    A role is fixed by a hash of the text's group of near-duplicates, so that all texts of a group have the same role.
    Groups are formed among *texts*: a further text that connects two groups moves all their texts to one role.
    """
    groups = near_duplicate_groups(texts)
    first: dict[int, bytes] = {}
    for group, text in zip(groups, texts, strict=True):
        digest = hashlib.sha256(_normal(text).encode("utf-8", "surrogatepass")).digest()
        first[group] = min(first.get(group, digest), digest)
    shares = {group: int.from_bytes(digest[:8], "big") / 2**64 for group, digest in first.items()}
    return [next(role for role, end in zip(ROLES, _UP_TO, strict=True) if shares[group] < end) for group in groups]
