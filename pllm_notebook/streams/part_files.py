"""The directory of a dataset: a manifest and part files, each written completely or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any

from pllm_notebook.exceptions import FileError, UsageError
from pllm_notebook.file_errors import file_errors
from pllm_notebook.store import open_directory

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MANIFEST", "PartFiles"]

MANIFEST = "_pllm.json"
_PART = "part-"


class PartFiles:
    """The part files of one dataset, on any file system that fsspec opens.

    Args:
        address: A path, or a URL such as `s3://bucket/out`.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.files, self.path = open_directory(address)
        # Some file systems cache listings, which would hide a part that another process wrote: it would be sent again.
        self.files.invalidate_cache()

    def names(self) -> set[str]:
        """Return the names of the complete files.

        Raises:
            UsageError: If the directory cannot be read. Nothing was sent.
        """
        try:
            paths = self.files.ls(self.path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            raise UsageError(f"{self.address} cannot be read: {error}. Nothing was sent.") from error
        return {str(path).rstrip("/").rpartition("/")[2] for path in paths}

    def check_place(self) -> None:
        """Check that the directory's path is not a file.

        Raises:
            FileError: If one is. Nothing was sent.
        """
        if self.files.isfile(self.path):
            raise FileError(
                f"{self.address} is a file, and parts are written to a directory. Use another path; a directory "
                f"that does not exist is created. Nothing was sent.",
                errno=errno.ENOTDIR,
                path=self.address,
            )

    def part_names(self) -> list[str]:
        """Return the names of the existing parts, in the order of the rows."""
        return sorted(name for name in self.names() if name.startswith(_PART) and name.endswith(".parquet"))

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a part, or some of its columns; None for all columns.

        Raises:
            UsageError: If it is not Parquet, or cannot be read. Nothing was sent.
        """
        import pyarrow.parquet as pq

        # Read as one file, so that no column is derived from directory names.
        path = self.path_of(name)
        try:
            with self.files.open(path, "rb") as file, pq.ParquetFile(file) as parquet:
                return parquet.read(None if columns is None else list(columns))
        except (ValueError, OSError, NotImplementedError) as error:  # the base classes of Arrow's errors
            raise _unreadable(path, error) from None

    def scan(self, paths: Sequence[str], where: Any = None) -> Any:
        """Return a `pyarrow.dataset.Dataset` of parts, filtered by the expression *where*.

        Raises:
            UsageError: If a part is missing or is not Parquet.
        """
        import pyarrow.dataset as ds

        there = self.names()
        for path in paths:
            if path.rpartition("/")[2] not in there:
                raise UsageError(
                    f"The part {path} is no longer there. Repeat the call of parse_dataset: answers come from the "
                    f"cache. open_dataset({self.address!r}) opens what is left. Nothing was sent."
                )
        try:
            found = ds.dataset(list(paths), filesystem=self.files, format="parquet")
            return found if where is None else found.to_table(filter=where)
        except (ValueError, OSError, NotImplementedError) as error:
            for path in paths:  # raises an error that names the file to delete
                self.read(path.rpartition("/")[2], [])
            raise UsageError(
                f"The parts of {self.address} cannot be read together: {error}. Nothing was sent."
            ) from None

    def set_aside(self, name: str) -> None:
        """Rename a part so that readers ignore it."""
        self.files.mv(self.path_of(name), self.path_of(f"_{name}.old"))

    def path_of(self, name: str) -> str:
        """Return the path of a file in its file system."""
        return f"{self.path}/{name}"

    def manifest(self) -> dict[str, Any] | None:
        """Return the existing manifest, or None.

        Raises:
            UsageError: If it cannot be read. Nothing was sent.
        """
        path = self.path_of(MANIFEST)
        try:
            content = json.loads(self.files.cat_file(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            content = None
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error}. Nothing was sent.") from error
        if not _is_manifest(content):
            raise UsageError(
                f"{path} is not a manifest of a dataset: it is damaged, or another program's. Write to another "
                f"directory. Nothing was sent."
            )
        manifest: dict[str, Any] = content
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, before anything is sent or once all parts exist."""
        so_far = "What was answered is kept." if "parts" in manifest else "Nothing was sent."
        self._write(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode(), so_far)

    def write(self, name: str, table: pa.Table) -> None:
        """Write or replace a part.

        Raises:
            FileError: If it cannot be written. Finished answers are kept.
        """
        import pyarrow.parquet as pq

        content = io.BytesIO()
        pq.write_table(table, content)
        self._write(name, content.getvalue(), "What was answered is kept.")

    def _write(self, name: str, content: bytes, so_far: str) -> None:
        path = self.path_of(name)
        if not self.is_local:
            try:
                # An object store shows a file only once it is complete.
                self.files.pipe_file(path, content)
            except OSError as error:
                message = f"{self.address} cannot be written: {error}. Give another address, or the right to write."
                raise FileError(f"{message} {so_far}", errno=error.errno, path=path) from error
            return
        # A directory would show the growing file. Dataset readers ignore names that begin with a dot.
        partial = f"{self.path}/.{name}.{os.getpid()}.tmp"
        try:
            with file_errors(path, "a file of a dataset", so_far, writing=True):
                os.makedirs(self.path, exist_ok=True)
                with open(partial, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
        except BaseException:
            if os.path.exists(partial):
                os.remove(partial)
            raise

    @property
    def is_local(self) -> bool:
        """Whether it is a directory on this machine."""
        protocol = self.files.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _unreadable(path: str, error: Exception) -> UsageError:
    said = " ".join(str(error).split()).rstrip(".")
    return UsageError(
        f"{path} cannot be read as Parquet: {said}. Delete it, and repeat the call of parse_dataset: answers come "
        f"from the cache. Nothing was sent."
    )


# The fields of every manifest and their types.
_FIELDS: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "prompt": (str, NoneType),
    "schema": (dict, NoneType),
    "options": (dict,),
    "rows": (int,),
    "status": (bool,),
}


def _is_manifest(content: Any) -> bool:
    if not isinstance(content, dict) or content.keys() < _FIELDS.keys():
        return False
    parts, files = content.get("parts", []), content.get("files")
    return (
        all(isinstance(content.get(name, ...), kinds) for name, kinds in _FIELDS.items())
        and (files is None or (isinstance(files, list) and all(map(_is_version, files))))
        and type(content["rows"]) is int
        and content["rows"] >= 1
        and isinstance(parts, list)
        and all(isinstance(name, str) and name.startswith(_PART) and "/" not in name for name in parts)
    )


def _is_version(file: Any) -> bool:
    """Return whether a value is a manifest's entry for a source file: path, size, stamp and number of rows."""
    return isinstance(file, list) and list(map(type, file)) == [str, int, str, int]
