"""A log of the comparisons made in a cache directory, one line each, so that a report can count them."""

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
    """One comparison of answers to several questions. It contains no text of rows.

    Attributes:
        kind: "compare", "race" or "improve".
        questions: For each side, a hash of its prompt, system text, type, model and everything else that can change
            its answers.
        at: Time in seconds since 1970.
        field: The labelled field, None without labels.
        labels: Number of labels that counted, 0 without labels.
        p: p-value of the test, None without a test.
    """

    kind: str
    questions: tuple[str, ...]
    at: float
    field: str | None = None
    labels: int = 0
    p: float | None = None


class ComparisonLog:
    """The comparisons of one cache directory. Keeps no file open. Truncated lines are skipped.

    Args:
        directory: The cache directory. The file is created with the first comparison.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, _FILE)

    def add(self, made: LoggedComparison) -> None:
        """Add a comparison. It is dropped if the directory cannot be written."""
        line = orjson.dumps(asdict(made), default=str) + b"\n"
        with suppress(OSError):
            make_private_directory(os.path.dirname(self._path))
            create_private(self._path)
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(handle, line)  # a single write: other processes append too
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
