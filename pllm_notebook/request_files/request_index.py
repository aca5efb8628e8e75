"""An index of a request file: the offset of each line, and of its result, in a few bytes per line.

A file is first read here from beginning to end, to group its lines by model and output limit. Each line is read again
when it is sent and when its result is written. In between, only numbers are in memory.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from pllm_notebook.exceptions import RunInterrupted, UsageError
from pllm_notebook.file_errors import file_errors
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.request_files.endpoints import EndpointResolver
from pllm_notebook.request_files.line_formats import RequestFileLine, identity_of, read_line, read_result

__all__ = ["LineGroup", "RequestIndex", "index_of"]

_READ_BYTES = 1 << 20
NOWHERE = -1


class LineGroup(NamedTuple):
    """Lines that share a spec.

    Attributes:
        target: The model.
        output_limit: Maximum tokens of one reply. None for no limit.
        rows: The lines, by their index among the file's requests, in order.
        wave: The group starts when all groups of the same model with a lower wave are written.
    """

    target: ResolvedModel
    output_limit: int | None
    rows: array[int]
    wave: int = 0


class RequestIndex:
    """The requests of a file. Read from any thread.

    Args:
        path: Path of the file.
        addresses: Resolves the model of each line.

    Attributes:
        starts: Offset of each line that is not blank, and of the end of the file.
        numbers: Number of each such line in the file, counted from 1.
        written: Offset of each such line's result in the results file, -1 for a line without a result.
        groups: The lines without a result, by model and output limit.
        invalid_lines: Lines without a result that cannot be sent.
        done: Number of lines that had a result at the start.
        failed_before: Number of those whose result is an error.
    """

    def __init__(self, path: str, addresses: EndpointResolver) -> None:
        with file_errors(path, "a request file"):
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._addresses = addresses
        self.starts = array("q")
        self.numbers = array("q")
        self.written = array("q")
        self.groups: list[LineGroup] = []
        self.invalid_lines = array("q")
        self.done = 0
        self.failed_before = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        return (
            f"RequestIndex(lines={len(self)}, groups={len(self.groups)}, invalid={len(self.invalid_lines)}, "
            f"done={self.done})"
        )

    def size(self, row: int) -> int:
        """Return the size of one line in bytes."""
        return self.starts[row + 1] - self.starts[row]

    def raw(self, row: int) -> bytes:
        """Read one line."""
        return os.pread(self._handle, self.size(row), self.starts[row])

    def line(self, row: int) -> RequestFileLine:
        """Read and parse one line."""
        return read_line(self.raw(row))

    def fault(self, row: int) -> str:
        """Return why a line cannot be sent, "" if it can."""
        line = self.line(row)
        if line.fault:
            return line.fault
        target = self._addresses.of(line)
        return f"{target} Nothing was sent for this line." if isinstance(target, str) else ""

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def index_of(path: str, results: str | None, addresses: EndpointResolver, stopped: Callable[[], bool]) -> RequestIndex:
    """Read a request file and its existing results. Sends nothing.

    Args:
        path: Path of the request file.
        results: Path of the results file, with complete lines only; None for none.
        addresses: Resolves the model of each line.
        stopped: Polled while the file is read; True stops.

    Raises:
        RunInterrupted: If it is stopped. Nothing was sent.
        UsageError: If the results file has a line that is not a result of this file. Nothing was sent.
    """
    index = RequestIndex(path, addresses)
    try:
        known = _ExistingResults(results)
        by: dict[tuple[int, int | None], LineGroup] = {}
        for row, line in enumerate(_lines(index, stopped)):
            at = known.take(line)
            index.written.append(at)
            if at != NOWHERE:
                index.done += 1
                continue
            target = line.fault or addresses.of(line)
            if isinstance(target, str):
                index.invalid_lines.append(row)
                continue
            limit = output_limit(line, target)
            group = by.get((id(target), limit))
            if group is None:
                group = by[id(target), limit] = LineGroup(target, limit, array("q"))
                index.groups.append(group)
            group.rows.append(row)
        known.check(path, results)
        index.failed_before = known.failed
    except BaseException:
        index.close()
        raise
    return index


def output_limit(line: RequestFileLine, target: ResolvedModel) -> int | None:
    """Return the maximum tokens of a line's reply, for all choices together. None for no limit."""
    assert isinstance(line.body, dict)
    limit, choices = target.wire.output_limit(line.body), line.body.get("n", 1)
    if not isinstance(limit, int) or limit < 1:
        return None
    return limit * max(choices, 1) if isinstance(choices, int) else limit


def _lines(index: RequestIndex, stopped: Callable[[], bool]) -> Iterator[RequestFileLine]:
    """Read all lines, and record their offsets."""
    with open(os.dup(index._handle), "rb", buffering=_READ_BYTES) as file:
        file.seek(0)
        at = 0
        for number, raw in enumerate(file, 1):
            if raw.strip():
                index.starts.append(at)
                index.numbers.append(number)
                yield read_line(raw)
            at += len(raw)
            if not number % 1024 and stopped():
                raise RunInterrupted("Stopped while the request file was read. Nothing was sent.", kept=0, total=0)
        index.starts.append(at)


class _ExistingResults:
    """Existing results by the identity of their requests. Each of several equal requests takes one result.

    Attributes:
        failed: Number of taken results that are an error.
    """

    def __init__(self, path: str | None) -> None:
        names, offsets, errors = array("Q"), array("q"), bytearray()
        self.failed = 0
        self._unknown = 0
        if path is not None:
            at = 0
            with open(path, "rb", buffering=_READ_BYTES) as file:
                for raw in file:
                    result = read_result(raw) if raw.strip() else None
                    if result is not None:
                        names.append(identity_of(result))
                        offsets.append(at)
                        errors.append(bool(result.error))
                    elif raw.strip():
                        self._unknown += 1
                    at += len(raw)
        found = np.frombuffer(names, dtype=np.uint64) if names else np.empty(0, np.uint64)
        order = np.argsort(found, kind="stable")
        self._names = found[order]
        self._offsets = np.frombuffer(offsets, dtype=np.int64)[order] if offsets else np.empty(0, np.int64)
        self._is_error = np.frombuffer(errors, dtype=np.bool_)[order] if errors else np.empty(0, np.bool_)
        self._taken = np.zeros(len(found), dtype=np.int32)
        self._left = len(found)

    def take(self, line: RequestFileLine) -> int:
        """Return the offset of a request's result, -1 for none."""
        if not self._left:
            return NOWHERE
        name = np.uint64(identity_of(line))
        first = int(np.searchsorted(self._names, name))
        if first == len(self._names) or self._names[first] != name:
            return NOWHERE
        at = first + int(self._taken[first])
        if at == len(self._names) or self._names[at] != name:
            return NOWHERE
        self._taken[first] += 1
        self._left -= 1
        self.failed += bool(self._is_error[at])
        return int(self._offsets[at])

    def check(self, path: str, results: str | None) -> None:
        """Refuse results of other requests, because sorting the file would drop them."""
        count = self._unknown + self._left
        if count:
            raise UsageError(
                f"{results} has {count:,} lines that are not results of {path}: they belong to another request file, "
                f"or the file has changed since. Use another save_filepath. Nothing was sent."
            )
