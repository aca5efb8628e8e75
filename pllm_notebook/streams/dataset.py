"""A dataset: a directory of part files with rows and their answers."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from pllm_notebook.callers import caller
from pllm_notebook.exceptions import UsageError
from pllm_notebook.file_errors import file_path
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of
from pllm_notebook.options import Options, ParseOptions, taken_by
from pllm_notebook.signatures import shows
from pllm_notebook.streams.dataset_retry import retry_parts
from pllm_notebook.streams.manifest import Question, recorded_options, recorded_type
from pllm_notebook.streams.parquet_source import require_pyarrow
from pllm_notebook.streams.part_answers import STATUS
from pllm_notebook.streams.part_files import PartFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

__all__ = ["Dataset", "DatasetProgress", "open_dataset"]


class DatasetProgress(NamedTuple):
    """The progress of a dataset, from its directory.

    Attributes:
        parts: Number of existing parts.
        total_parts: Number of all parts. None if unknown: the length of a stream is known only at its end.
        rows: Rows of the existing parts. With `explode`, lines.
        total_rows: Rows of the source. None if unknown.
        answered: Rows with an answer. None if the parts have no status.
        failed: Rows that failed. None if the parts have no status.
        skipped: Rows with a missing value. None if the parts have no status.
    """

    parts: int
    total_parts: int | None
    rows: int
    total_rows: int | None
    answered: int | None
    failed: int | None
    skipped: int | None

    @property
    def is_complete(self) -> bool:
        """Whether all parts exist."""
        return self.parts == self.total_parts

    def __str__(self) -> str:
        def of(count: int, total: int | None) -> str:
            return f"{count:,}" if total is None else f"{count:,} of {total:,}"

        counted = f"{of(self.parts, self.total_parts)} parts, {of(self.rows, self.total_rows)} rows"
        if self.answered is None:
            return counted
        return f"{counted}: {self.answered:,} answered, {self.failed:,} failed, {self.skipped:,} skipped"


@dataclass(frozen=True, slots=True)
class Dataset:
    """The part files of a dataset, and the counts of one call.

    Attributes:
        address: The directory.
        paths: Paths of all parts, in the order of the rows.
        written: Number of parts that this call wrote. The others existed before.
        rows: Rows that this call asked about, in the parts that it wrote.
        answered: How many of them have an answer.
        failed: How many of them failed.
        skipped: How many of them had a missing value.
        cost_usd: Cost of this call in US dollars. None if unknown.
    """

    address: str
    paths: tuple[str, ...]
    written: int
    rows: int
    answered: int
    failed: int
    skipped: int
    cost_usd: float | None
    _parts: PartFiles = field(repr=False)
    # None for an opened directory: the manifest has the question.
    _question: Question | None = field(repr=False, default=None)

    @property
    def cost(self) -> float | None:
        """Cost of this call in US dollars. None if unknown."""
        return self.cost_usd

    @property
    def files(self) -> Any:
        """The fsspec file system of the parts."""
        return self._parts.files

    def scan(self) -> Any:
        """Return a `pyarrow.dataset.Dataset` of all parts, in the order of the rows. Reads no row.

        Raises:
            UsageError: If a part is missing or is not Parquet.
        """
        return self._parts.scan(self.paths)

    def errors(self) -> pa.Table:
        """Return the failed rows of all parts, with their messages in `_pllm_error`. Sends nothing.

        Raises:
            UsageError: If the parts have no status, or one cannot be read.
        """
        import pyarrow.dataset as ds

        self._require_status()
        if not self.paths:
            return self.scan().to_table()
        return self._parts.scan(self.paths, ds.field(STATUS) == "failed").drop_columns([STATUS])

    def progress(self) -> DatasetProgress:
        """Count the existing parts and rows. Reads the status of each row, and sends nothing."""
        manifest, names = self._manifest(), self._parts.part_names()
        counts: Counter[str] = Counter()
        rows = 0
        for name in names:
            table = self._parts.read(name, [STATUS] if manifest["status"] else [])
            rows += table.num_rows
            if manifest["status"]:
                counts.update(table[STATUS].to_pylist())
        files, most = manifest.get("files"), manifest["rows"]
        total = None if files is None else sum(max(1, -(-each[3] // most)) for each in files)
        known = (counts["ok"] + counts["cached"], counts["failed"], counts["skipped"])
        return DatasetProgress(
            len(names),
            len(manifest["parts"]) if "parts" in manifest else total,
            rows,
            None if files is None or manifest["options"].get("explode") else sum(each[3] for each in files),
            *(known if manifest["status"] else (None, None, None)),
        )

    @shows(taken_by(Options, "parse"))
    def retry(
        self,
        kinds: Sequence[str] | None = None,
        *,
        response_format: Any = NOT_GIVEN,
        **options: Unpack[ParseOptions],
    ) -> Dataset:
        """Retry failed rows and write their parts with the new answers. The source is not read.

        The call may be killed at any time: each part has either its old rows or its new ones.

        Args:
            kinds: Failure kinds to retry. None for those that can succeed unchanged. A paid failure (refusal,
                truncated, schema) named here is paid for again.
            response_format: The type, if it cannot be imported by its name in this process.
            **options: Options for sending, such as `max_cost_usd`. Others must be those of the dataset.

        Returns:
            The dataset with the counts of this call: `written` parts, and `rows` that were retried.

        Raises:
            UsageError: If the parts do not record which rows failed, or the question differs. Nothing was sent.
            BudgetError: If `max_cost_usd` was reached. A part with a row that was not sent is not changed.
        """
        given: dict[str, Any] = {**options}
        manifest = self._manifest()
        kind = NOT_GIVEN if self._question is None else self._question.response_format
        if response_format is not NOT_GIVEN or "kind" in given:
            kind = format_of(response_format, given, "retry")
        elif kind is NOT_GIVEN:
            kind = recorded_type(manifest)
        before = recorded_options(manifest) if self._question is None else self._question.given
        question = Question(kind, manifest["prompt"], before | given, manifest["rows"], manifest["status"])
        counts = retry_parts(self._parts, manifest, question, kinds, caller())
        return replace(
            self,
            written=counts.written,
            rows=counts.rows,
            answered=counts.answered,
            failed=counts.failed,
            skipped=counts.skipped,
            cost_usd=counts.cost_usd,
        )

    def _manifest(self) -> dict[str, Any]:
        manifest = self._parts.manifest()
        if manifest is None:
            raise UsageError(f"{self.address} has no manifest, so it is not a dataset. Nothing was sent.")
        return manifest

    def _require_status(self) -> None:
        if not self._manifest()["status"]:
            raise UsageError(f"The parts of {self.address} were written with status=False: they have no failures.")


def open_dataset(address: str | os.PathLike[str]) -> Dataset:
    """Open a directory that `parse_dataset` wrote, complete or not, on this machine or another. Sends nothing.

    Args:
        address: The directory, a path or a URL that fsspec opens.

    Returns:
        The dataset, with counts of 0. See its `progress()`, `errors()`, `scan()` and `retry()`.

    Raises:
        UsageError: If there is no dataset.
        MissingPackageError: If PyArrow is not installed.
    """
    require_pyarrow()
    parts = PartFiles(file_path(address, "a dataset's directory"))
    dataset = Dataset(parts.address, (), 0, 0, 0, 0, 0, 0.0, parts)
    there = parts.part_names()
    names = [name for name in dataset._manifest().get("parts") or there if name in there]
    return replace(dataset, paths=tuple(parts.path_of(name) for name in names))
