"""A dataset: a directory of part files that hold rows with their answers, and what is known of them."""

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
    """How far a dataset is, as its directory says.

    Attributes:
        parts: Parts that are there.
        total_parts: Parts of the whole; None while that is unknown: a stream tells its length at its end.
        rows: Rows of the parts that are there; with `explode`, lines.
        total_rows: Rows of the source, None for unknown.
        answered: Rows that have an answer; None where the parts have no status.
        failed: Rows that failed; None where the parts have no status.
        skipped: Rows that had a missing value; None where the parts have no status.
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
        """Whether all parts are there."""
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
    """The part files of a dataset, and what one call did for them.

    Attributes:
        address: The directory.
        paths: Of all parts, in the order of the rows.
        written: Number of parts that this call wrote; the others were there.
        rows: Rows that this call asked about, in the parts that it wrote.
        answered: Those of them that have an answer.
        failed: Those of them that failed.
        skipped: Those of them that had a missing value.
        cost_usd: What this call cost, None for unknown.
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
    # None where the directory was opened: the manifest has it.
    _question: Question | None = field(repr=False, default=None)

    @property
    def cost(self) -> float | None:
        """What this call cost in US dollars, None for unknown."""
        return self.cost_usd

    @property
    def files(self) -> Any:
        """The file system of the parts, as fsspec has it."""
        return self._parts.files

    def scan(self) -> Any:
        """Return a `pyarrow.dataset.Dataset` of all parts, in the order of the rows. Reads no row.

        Raises:
            UsageError: If a part is no longer there, or is no Parquet.
        """
        return self._parts.scan(self.paths)

    def errors(self) -> pa.Table:
        """Return the rows that failed, of all parts, with their messages in `_pllm_error`. Sends nothing.

        Raises:
            UsageError: If the parts have no status, or one cannot be read.
        """
        import pyarrow.dataset as ds

        self._require_status()
        if not self.paths:
            return self.scan().to_table()
        return self._parts.scan(self.paths, ds.field(STATUS) == "failed").drop_columns([STATUS])

    def progress(self) -> DatasetProgress:
        """Count the parts and rows that are there. Reads the status of each row, and sends nothing."""
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
        """Ask again about rows that failed, and write their parts with what came; the source is not read.

        May be killed at any time: a part has either its old rows or its new ones.

        Args:
            kinds: Kinds of failure to try again; None for those that can succeed unchanged. A paid failure (refusal,
                truncated, schema) that is named here is paid for again.
            response_format: The type, where it cannot be imported by its name in this process.
            **options: Options of sending, such as `max_cost_usd`. Others must be those of the dataset.

        Returns:
            The dataset, with the counts of this call: `written` parts, and `rows` that were asked again.

        Raises:
            UsageError: When the parts do not say which rows failed, or the question is another one. Nothing was sent.
            BudgetError: When `max_cost_usd` was reached; a part that lacks a row for it stays as it is.
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
            raise UsageError(f"{self.address} has no manifest, so it is no dataset of parse_dataset. Nothing was sent.")
        return manifest

    def _require_status(self) -> None:
        if not self._manifest()["status"]:
            raise UsageError(f"The parts of {self.address} were written with status=False: they have no failures.")


def open_dataset(address: str | os.PathLike[str]) -> Dataset:
    """Open a directory that `parse_dataset` wrote, complete or not, on this machine or another. Sends nothing.

    Args:
        address: The directory, a path or an address that fsspec opens.

    Returns:
        Its parts, with counts of 0: `progress()`, `errors()`, `scan()`, `retry()`.

    Raises:
        UsageError: If there is no dataset.
        MissingPackageError: Without PyArrow.
    """
    require_pyarrow()
    parts = PartFiles(file_path(address, "a dataset's directory"))
    dataset = Dataset(parts.address, (), 0, 0, 0, 0, 0, 0.0, parts)
    there = parts.part_names()
    names = [name for name in dataset._manifest().get("parts") or there if name in there]
    return replace(dataset, paths=tuple(parts.path_of(name) for name in names))
