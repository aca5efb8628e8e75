"""Which comparisons were made in a cache directory: a line each, so that a report can say how many were tried."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from pllm_notebook.files import create_private, make_private_directory

__all__ = ["ComparisonLog", "LoggedComparison"]

_FILE = "comparisons.jsonl"


@dataclass(frozen=True, slots=True)
class LoggedComparison:
    """One comparison of answers to several questions. It holds no text of rows.

    Attributes:
        kind: "compare", "race" or "improve".
        questions: Of each side, the hash of its prompt, system text, type, model and what else decides its answers.
        at: Seconds since 1970.
        field: That labels are of, None without labels.
        labels: How many counted, 0 without.
        p: Of the test, None for none.
    """

    kind: str
    questions: tuple[str, ...]
    at: float
    field: str | None = None
    labels: int = 0
    p: float | None = None


class ComparisonLog:
    """The comparisons of one cache directory. Holds no file open; a line that was cut short is left out.

    Args:
        directory: The cache's. The file is made with the first comparison.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, _FILE)

    def add(self, made: LoggedComparison) -> None:
        """Add a comparison; it is left out where the directory cannot be written."""
        line = orjson.dumps(asdict(made), default=str) + b"\n"
        with suppress(OSError):
            make_private_directory(os.path.dirname(self._path))
            create_private(self._path)
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(handle, line)  # in one piece: other processes add theirs
            finally:
                os.close(handle)

    def __iter__(self) -> Iterator[LoggedComparison]:
        try:
            with open(self._path, "rb") as file:
                lines = file.readlines()
        except OSError:
            return
        for line in lines:
            with suppress(ValueError, TypeError, KeyError):
                known: dict[str, Any] = orjson.loads(line)
                yield LoggedComparison(**known | {"questions": tuple(map(str, known["questions"]))})
