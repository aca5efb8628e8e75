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
    """The hashes of a result's columns, computed on first use, so that the caller does not wait for them.

    Args:
        library: Built the columns.
        made: Name to array, none of which shares memory with what the caller was given.
        origin: For each line of them its row; None where each row has one line.
    """

    def __init__(self, library: FrameLibrary, made: Mapping[str, Any], origin: Sequence[int] | None) -> None:
        self._lock = threading.Lock()
        self._library = library
        self._made = dict(made)
        self._origin = origin
        self._answers: dict[str, ShortHashes] = {}
        for name, array in made.items():
            # The caller holds the same lists and dicts, and may change them in place.
            if library.holds_objects(array):
                self._hash(name)

    def all(self) -> tuple[dict[str, ShortHashes], np.ndarray[Any, Any] | None]:
        """Return column to hashes, and the row of each line, None where each row has one."""
        with self._lock:
            for name in list(self._made):
                self._hash(name)
            return self._answers, None if self._origin is None else np.array(self._origin, dtype=np.int32)

    def _hash(self, name: str) -> None:
        self._answers[name] = self._library.array_hashes(self._made.pop(name))
