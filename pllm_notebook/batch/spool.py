"""The files of a job: its requests as they were sent, its results as they came, and what belongs to no line.

All in one folder, for their owner alone. A file has its name only when it is whole and on disk. Requests are
kept, compressed, while a row of theirs has no answer; results until every answer of theirs is in the store.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, cast

import orjson

from pllm_notebook.batch.job import custom_id
from pllm_notebook.files import sync_directory
from pllm_notebook.types import BatchResult, RawReply

__all__ = ["RequestFile", "ResultFile", "Spool"]

_PART = ".part"
# An unfinished file counts as work in progress until it is this old.
_STALE_S = 86_400.0
_BLOCK = 1 << 20


class Spool:
    """The folder of all jobs' files.

    Args:
        folder: Exists.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def requests(self, job: str) -> Path:
        """Return where a job's request file is, until `compress`."""
        return self.folder / f"{job}.jsonl"

    def results(self, job: str) -> Path:
        """Return where a job's results are kept."""
        return self.folder / f"{job}.results.gz"

    def unknown(self, job: str) -> Path:
        """Return where results are kept that belong to no line of the job."""
        return self.folder / f"{job}.unknown.jsonl"

    def duplicates(self, job: str) -> Path:
        """Return where second answers to the job's calls are kept."""
        return self.folder / f"{job}.second.jsonl"

    def _packed(self, job: str) -> Path:
        return self.folder / f"{job}.jsonl.gz"

    def is_whole(self, job: str, sha256: str) -> bool:
        """Return whether the request file is there as it was written."""
        try:
            with open(self.requests(job), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            return False

    def compress(self, job: str) -> None:
        """Compress the request file, once its job exists; nothing happens where that is done."""
        plain, packed = self.requests(job), self._packed(job)
        if not plain.exists():
            return
        part = packed.with_name(packed.name + _PART)
        with open(plain, "rb") as source, _private(part) as raw:
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as target:
                shutil.copyfileobj(source, target, _BLOCK)
            _settle(raw, part, packed)
        plain.unlink()

    def lines(self, job: str) -> Iterator[bytes]:
        """Return the request file's lines without their ends; none where it is deleted."""
        plain, packed = self.requests(job), self._packed(job)
        file: IO[bytes]
        try:
            # The plain file is deleted only after the other has its name.
            file = open(plain, "rb")  # noqa: SIM115  # one of two, closed below
        except FileNotFoundError:
            try:
                file = cast(IO[bytes], gzip.open(packed, "rb"))  # noqa: SIM115  # the other
            except FileNotFoundError:
                return
        with file:
            for line in file:
                yield line.rstrip(b"\n")

    def delete_requests(self, job: str) -> None:
        """Delete the request file, in either form."""
        self.requests(job).unlink(missing_ok=True)
        self._packed(job).unlink(missing_ok=True)

    def delete_results(self, job: str) -> None:
        """Delete the results; those of no line are kept."""
        self.results(job).unlink(missing_ok=True)

    def read_results(self, job: str, lines: int, size: int) -> Iterator[list[BatchResult]]:
        """Return the kept results in groups of at most *lines*, and about *size* bytes."""
        group: list[BatchResult] = []
        held = 0
        with gzip.open(self.results(job), "rb") as file:
            for line in file:
                group.append(_read(line))
                held += len(line)
                if len(group) >= lines or held >= size:
                    yield group
                    group, held = [], 0
        if group:
            yield group

    def quarantine(self, job: str, results: Iterable[BatchResult], *, overwrite: bool) -> None:
        """Keep results that belong to no line. *afresh* forgets those of an earlier reading."""
        path = self.unknown(job)
        if overwrite:
            path.unlink(missing_ok=True)
        lines = [_written(result) for result in results]
        if lines:
            with _private(path, append=True) as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())

    def keep_duplicates(self, job: str, came: Literal["live", "batch"], answers: Mapping[str, bytes]) -> None:
        """Append second answers to a job's file of them.

        A call that was sent live while its job went on may be answered twice. The first answer is in the cache and
        stays there; the second was paid for too, so it is kept for comparison. After a crash a line may be there twice.

        Args:
            job: The job's id.
            came: How they came.
            answers: Key to the response's body.
        """
        if not answers:
            return
        with _private(self.duplicates(job), append=True) as file:
            for key, body in answers.items():
                text = body.decode("utf-8", "replace")
                file.write(orjson.dumps({"custom_id": custom_id(key), "came": came, "body": text}) + b"\n")

    def sweep(self, known: Iterable[str], wall_clock: Callable[[], float] = time.time) -> None:
        """Delete what a crash left of plans that were never made: old files of no job in *known*."""
        ids = set(known)
        for path in self.folder.iterdir():
            ours = path.name.partition(".")[0]
            if "." in path.name and (ours not in ids or path.name.endswith(_PART)):
                with suppress(OSError):
                    if wall_clock() - path.stat().st_mtime > _STALE_S:
                        path.unlink()


class RequestFile:
    """A job's request file while it is written.

    Attributes:
        size: Bytes so far.
        count: Lines so far.
    """

    def __init__(self, spool: Spool, job: str) -> None:
        self.job = job
        self.size = 0
        self.count = 0
        self._path = spool.requests(job)
        self._part = self._path.with_name(self._path.name + _PART)
        self._file = _private(self._part)
        self._digest = hashlib.sha256()

    def add(self, line: bytes) -> int:
        """Write one line, and return its number."""
        whole = line + b"\n"
        self._file.write(whole)
        self._digest.update(whole)
        self.size += len(whole)
        self.count += 1
        return self.count - 1

    def finish(self) -> str:
        """Name the file, once it is on disk; return its sha256."""
        with self._file:
            _settle(self._file, self._part, self._path)
        return self._digest.hexdigest()

    def drop(self) -> None:
        """Delete it, finished or not."""
        self._file.close()
        self._part.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


class ResultFile:
    """A job's results while they arrive."""

    def __init__(self, spool: Spool, job: str) -> None:
        self._path = spool.results(job)
        # Of this process alone: one that lost its lease may still be writing.
        self._part = self._path.with_name(f"{self._path.name}.{os.getpid()}{_PART}")
        self._raw = _private(self._part)
        self._file = gzip.GzipFile(fileobj=self._raw, mode="wb", compresslevel=1, mtime=0)

    def add(self, results: Iterable[BatchResult]) -> None:
        """Write some more."""
        self._file.writelines(_written(result) for result in results)

    def finish(self) -> None:
        """Name the file, once it is on disk."""
        self._file.close()
        with self._raw:
            _settle(self._raw, self._part, self._path)

    def drop(self) -> None:
        """Delete what was written; nothing where it is finished."""
        self._file.close()
        self._raw.close()
        self._part.unlink(missing_ok=True)


def _private(path: Path, *, append: bool = False) -> IO[bytes]:
    how = os.O_APPEND if append else os.O_TRUNC
    return os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | how, 0o600), "ab" if append else "wb")


def _settle(file: IO[bytes], part: Path, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    os.rename(part, path)
    sync_directory(str(path.parent))


def _written(result: BatchResult) -> bytes:
    raw = result.raw
    kept: list[object] = [result.custom_id, result.failure]
    if raw is not None:
        try:
            kept += [raw.status, dict(raw.headers), raw.body.decode("utf-8")]
        except UnicodeDecodeError:
            kept += [raw.status, dict(raw.headers), base64.b64encode(raw.body).decode("ascii"), "base64"]
    return orjson.dumps(kept) + b"\n"


def _read(line: bytes) -> BatchResult:
    custom_id, failure, *rest = orjson.loads(line)
    if not rest:
        return BatchResult(custom_id, None, failure)
    status, headers, text, *how = rest
    body = base64.b64decode(text) if how else text.encode("utf-8")
    return BatchResult(custom_id, RawReply(status, headers, body), failure)
