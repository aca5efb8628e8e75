"""The files of a job: its requests as sent, its results as received, and results that match no line.

All files are in one folder, and only their owner can read them. A file gets its name once it is complete and on disk.
Requests are kept, compressed, while one of their rows has no answer; results until all their answers are in the store.
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
    """The folder with the files of all jobs.

    Args:
        folder: An existing folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def requests(self, job: str) -> Path:
        """Return the path of a job's request file before `compress`."""
        return self.folder / f"{job}.jsonl"

    def results(self, job: str) -> Path:
        """Return the path of a job's results."""
        return self.folder / f"{job}.results.gz"

    def unknown(self, job: str) -> Path:
        """Return the path of the results that match no line of the job."""
        return self.folder / f"{job}.unknown.jsonl"

    def duplicates(self, job: str) -> Path:
        """Return the path of second answers to the job's calls."""
        return self.folder / f"{job}.second.jsonl"

    def _packed(self, job: str) -> Path:
        return self.folder / f"{job}.jsonl.gz"

    def is_whole(self, job: str, sha256: str) -> bool:
        """Return whether the request file exists and is as it was written."""
        try:
            with open(self.requests(job), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            return False

    def compress(self, job: str) -> None:
        """Compress the request file, once its job exists at the provider. Has no effect if that was done before."""
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
        """Yield the request file's lines without their newlines. Yields nothing if the file is deleted."""
        plain, packed = self.requests(job), self._packed(job)
        file: IO[bytes]
        try:
            # The plain file is deleted only after the compressed one has its name.
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
        """Delete the results. Those that match no line are kept."""
        self.results(job).unlink(missing_ok=True)

    def read_results(self, job: str, lines: int, size: int) -> Iterator[list[BatchResult]]:
        """Yield the saved results in groups of at most *lines* results and about *size* bytes."""
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
        """Save results that match no line. *overwrite* deletes those of an earlier delivery first."""
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
        """Append second answers to the job's file of duplicates.

        A call that was sent live while its job continued may be answered twice. The first answer stays in the cache.
        The second was paid for too, so it is kept for comparison. After a crash, a line may be in the file twice.

        Args:
            job: The job's id.
            came: How the second answers came.
            answers: Response bodies by key.
        """
        if not answers:
            return
        with _private(self.duplicates(job), append=True) as file:
            for key, body in answers.items():
                text = body.decode("utf-8", "replace")
                file.write(orjson.dumps({"custom_id": custom_id(key), "came": came, "body": text}) + b"\n")

    def sweep(self, known: Iterable[str], wall_clock: Callable[[], float] = time.time) -> None:
        """Delete files that a crash left behind: those over a day old that are unfinished or of no job in *known*."""
        ids = set(known)
        for path in self.folder.iterdir():
            ours = path.name.partition(".")[0]
            if "." in path.name and (ours not in ids or path.name.endswith(_PART)):
                with suppress(OSError):
                    if wall_clock() - path.stat().st_mtime > _STALE_S:
                        path.unlink()


class RequestFile:
    """A job's request file while it is being written.

    Attributes:
        size: Number of bytes written so far.
        count: Number of lines written so far.
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
        """Write one line and return its number, from 0."""
        whole = line + b"\n"
        self._file.write(whole)
        self._digest.update(whole)
        self.size += len(whole)
        self.count += 1
        return self.count - 1

    def finish(self) -> str:
        """Sync the file to disk, give it its name, and return its SHA-256."""
        with self._file:
            _settle(self._file, self._part, self._path)
        return self._digest.hexdigest()

    def drop(self) -> None:
        """Delete the file, finished or not."""
        self._file.close()
        self._part.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


class ResultFile:
    """A job's results while they arrive."""

    def __init__(self, spool: Spool, job: str) -> None:
        self._path = spool.results(job)
        # The name is this process's own: another process that lost its lease may still be writing.
        self._part = self._path.with_name(f"{self._path.name}.{os.getpid()}{_PART}")
        self._raw = _private(self._part)
        self._file = gzip.GzipFile(fileobj=self._raw, mode="wb", compresslevel=1, mtime=0)

    def add(self, results: Iterable[BatchResult]) -> None:
        """Write more results."""
        self._file.writelines(_written(result) for result in results)

    def finish(self) -> None:
        """Sync the file to disk and give it its name."""
        self._file.close()
        with self._raw:
            _settle(self._raw, self._part, self._path)

    def drop(self) -> None:
        """Delete an unfinished file. A finished one is kept."""
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
