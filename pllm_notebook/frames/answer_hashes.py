"""Content hashes of a result's columns, computed when the registry needs them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pllm_notebook.frames.hashing import ShortHashes
from pllm_notebook.frames.table import FrameLibrary

__all__ = ["AnswerHashes"]


class AnswerHashes:
    """The hashes of a result's columns, computed on first use so that the caller does not wait for them.

    Args:
        library: The library that built the columns.
        made: Maps a column's name to its array. No array shares memory with the caller's result.
        origin: The row of each line. None if each row has one line.
    """

    def __init__(self, library: FrameLibrary, made: Mapping[str, Any], origin: Sequence[int] | None) -> None:
        self._lock = threading.Lock()
        self._library = library
        self._made = dict(made)
        self._origin = origin
        self._answers: dict[str, ShortHashes] = {}
        for name, array in made.items():
            # The caller has the same lists and dicts, and may change them in place.
            if library.holds_objects(array):
                self._hash(name)

    def all(self) -> tuple[dict[str, ShortHashes], np.ndarray[Any, Any] | None]:
        """Return the hashes by column, and the row of each line; None if each row has one line."""
        with self._lock:
            for name in list(self._made):
                self._hash(name)
            return self._answers, None if self._origin is None else np.array(self._origin, dtype=np.int32)

    def _hash(self, name: str) -> None:
        self._answers[name] = self._library.array_hashes(self._made.pop(name))
