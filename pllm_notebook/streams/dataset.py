"""`parse_dataset`: Parquet files in, part files with answers out; what is there is not asked again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Unpack

from pllm_notebook.callers import caller
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Run, options_for
from pllm_notebook.frames.libraries import accessor_of
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of, output_of
from pllm_notebook.option_fields import is_number, taken_by
from pllm_notebook.option_types import ParseOptions
from pllm_notebook.options import Options
from pllm_notebook.signatures import shows
from pllm_notebook.streams.batches import answered, window_for
from pllm_notebook.streams.manifest import check_same, known_counts, manifest_of
from pllm_notebook.streams.parquet_source import (
    ParquetPiece,
    SourceFile,
    find_files,
    pieces_of,
    read_footers,
    read_pieces,
    require_pyarrow,
)
from pllm_notebook.streams.part_files import PartFiles
from pllm_notebook.streams.run_window import TablePiece

__all__ = ["Dataset", "parse_dataset"]

_ROWS = 20_000
_STATUS, _ERROR = "_pllm_status", "_pllm_error"


@dataclass(frozen=True, slots=True)
class Dataset:
    """The part files of a dataset, and what one call did for them.

    Attributes:
        address: The directory.
        paths: Of all parts, in the order of the rows.
        written: Number of parts that this call wrote; the others were there.
        rows: Rows of the parts that this call wrote.
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
    _files: Any = field(repr=False)

    def scan(self) -> Any:
        """Return a `pyarrow.dataset.Dataset` of all parts, in the order of the rows. Reads no row."""
        import pyarrow.dataset as ds

        return ds.dataset(list(self.paths), filesystem=self._files, format="parquet")


@shows(taken_by(Options, "parse"))
def parse_dataset(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    response_format: Any = NOT_GIVEN,
    prompt: str | None = None,
    *,
    rows: int = _ROWS,
    status: bool = True,
    **options: Unpack[ParseOptions],
) -> Dataset:
    r"""Ask the same question about every row of Parquet files, and write the rows with their answers to part files.

    Memory is bounded, and the call may be killed at any time: the same call again reads and asks only what has no part
    file yet, and what was answered meanwhile is in the cache. Needs the extra `dataset`.

    Args:
        source: A Parquet file, a directory or a pattern (`in/*.parquet`), or several; paths, or addresses that fsspec
            opens (`s3://…`). All files have the same columns.
        out: Directory of the part files, a path or an address. It holds one dataset.
        response_format: As for `df.llm.parse`.
        prompt: As for `df.llm.parse`.
        rows: Rows of a part at most.
        status: Whether parts have the columns `_pllm_status` (as `df.llm.status`) and `_pllm_error` (text, null for
            none).
        **options: As for `df.llm.parse`; `max_cost_usd` is for all parts together.

    Returns:
        The parts' paths, counts and cost of this call, and `scan()`.

    Raises:
        UsageError: When the call cannot be carried out as written, the files' columns differ, or *out* holds answers to
            another question. Nothing was sent.
        MissingPackageError: Without PyArrow. Nothing was sent.
        BudgetError: When `max_cost_usd` was reached. Parts that lack a row for it are not written; the same call with
            a higher one goes on.
        ProviderRejectedError: When key, model or quota were refused; what finished is kept.
        KeyboardInterrupt: After an interrupt; what finished is kept, and the same call resumes.

    Example:
        pllm.parse_dataset("in/*.parquet", "out/", Review, "Read:\n{text}", max_cost_usd=20).scan().to_table()
    """
    if not is_number(rows, whole=True) or rows < 1:
        raise UsageError(f"rows is a whole number of at least 1, not {rows!r}. Nothing was sent.")
    given: dict[str, Any] = {**options}
    kind = format_of(response_format, given, "parse_dataset")
    window = window_for(kind, prompt, given, rows, "parse_dataset")
    require_pyarrow()
    files, parts = find_files(_addresses(source)), PartFiles(os.fspath(out))
    _check_apart(files, parts)
    there = parts.manifest()
    counts = known_counts(there, files)
    if counts is None:
        counts, schema = read_footers(files)
        if there is None:
            _check_columns(schema.names, status=status)
            # A question that cannot be asked is refused before a manifest holds the directory to it.
            accessor_of(schema.empty_table()).estimate(kind, prompt, **given)
    resolved = options_for({**given})
    manifest = manifest_of(files, counts, (output_of(kind, resolved), prompt, resolved), rows=rows, status=status)
    pieces = pieces_of(files, counts, rows)
    if there is not None:
        check_same(there, manifest, parts.address)
    else:
        if any(name.endswith(".parquet") for name in parts.names()):
            raise UsageError(
                f"{parts.address} holds Parquet files and no manifest, so it is no dataset of parse_dataset. Write to "
                f"another directory. Nothing was sent."
            )
        parts.write_manifest(manifest)
    finished = parts.names()
    open_pieces = [piece for piece in pieces if piece.name not in finished]
    done: Counter[str] = Counter()
    costs: list[float | None] = []
    with closing(answered(window, _tables(open_pieces), caller())) as each:
        for one in each:
            counts_now = one.run.progress()
            costs.append(counts_now.cost_usd)
            if counts_now.not_sent:
                continue  # a part is whole: the call that goes on writes it
            parts.write(one.piece.name, _with_status(one.run) if status else one.run.to_frame())
            done.update(
                parts=1,
                rows=counts_now.total,
                answered=counts_now.done + counts_now.cached,
                failed=counts_now.failed,
                skipped=counts_now.skipped,
            )
            del one
    return Dataset(
        parts.address,
        tuple(parts.path_of(piece.name) for piece in pieces),
        done["parts"],
        done["rows"],
        done["answered"],
        done["failed"],
        done["skipped"],
        None if None in costs else sum(cost for cost in costs if cost is not None),
        parts.files,
    )


def _addresses(source: Any) -> list[str]:
    several = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(several, Sequence) or not all(isinstance(each, str | os.PathLike) for each in several):
        raise UsageError(
            f"parse_dataset reads Parquet files: give a path, a pattern, or a list of them, not "
            f"{type(source).__name__}. Nothing was sent."
        )
    return [os.fspath(each) for each in several]


def _check_apart(files: Sequence[SourceFile], parts: PartFiles) -> None:
    inside = next((file for file in files if file.files == parts.files and _is_in(file, parts)), None)
    if inside is not None:
        raise UsageError(
            f"{inside.path} is in {parts.address}, where the parts would be written: the next call would read them "
            f"as its source. Write to another directory. Nothing was sent."
        )


def _is_in(file: SourceFile, parts: PartFiles) -> bool:
    return str(file.files._strip_protocol(file.path)).rpartition("/")[0] == parts.path


def _check_columns(names: Sequence[str], *, status: bool) -> None:
    for name in (_STATUS, _ERROR):
        if status and name in names:
            raise UsageError(
                f"The files have a column {name!r}, which the parts would have too. Rename it, or pass status=False. "
                f"Nothing was sent."
            )


def _tables(pieces: Sequence[ParquetPiece]) -> Iterator[TablePiece]:
    with closing(read_pieces(pieces)) as tables:
        for piece, table in tables:
            yield TablePiece(piece.name, table)


def _with_status(run: Run) -> Any:
    """Return a run's frame with what became of each row."""
    import pyarrow as pa

    rows: Any = run.rows
    frame = run.to_frame()
    states = [run.table.status(row) for row in range(rows.total)]
    messages = rows.shape.messages(run.table)
    if rows.shape.explode:
        _, origin = rows.shape.table(run.table)
        states, messages = [states[row] for row in origin], [messages[row] for row in origin]
    frame = frame.append_column(_STATUS, pa.array(states, pa.string()))
    return frame.append_column(_ERROR, pa.array(messages, pa.string()))
