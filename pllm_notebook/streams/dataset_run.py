"""`parse_dataset`: write part files with rows and their answers. Existing parts are not asked again."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Unpack

from pllm_notebook.callers import caller
from pllm_notebook.exceptions import NameClashError, UsageError
from pllm_notebook.execution import options_for
from pllm_notebook.file_errors import file_path
from pllm_notebook.formatting import counted
from pllm_notebook.frames.accessor import made_columns
from pllm_notebook.frames.libraries import accessor_of
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of
from pllm_notebook.options import Options, ParseOptions, check_row_count, taken_by
from pllm_notebook.signatures import shows
from pllm_notebook.streams.batches import window_for
from pllm_notebook.streams.dask_source import dask_source
from pllm_notebook.streams.dataset import Dataset
from pllm_notebook.streams.dataset_source import DatasetSource
from pllm_notebook.streams.manifest import Question, check_same, manifest_of
from pllm_notebook.streams.parquet_source import ParquetSource, SourceFile, require_pyarrow
from pllm_notebook.streams.part_answers import check_columns, part_table, write_parts
from pllm_notebook.streams.part_files import PartFiles
from pllm_notebook.streams.stream_source import lazy_source, stream_of
from pllm_notebook.streams.table_window import Answered, TablePiece

__all__ = ["parse_dataset"]

_ROWS = 20_000


@shows(taken_by(Options, "parse"))
def parse_dataset(
    source: Any,
    out: str | os.PathLike[str],
    response_format: Any = NOT_GIVEN,
    prompt: str | None = None,
    *,
    rows: int = _ROWS,
    status: bool = True,
    **options: Unpack[ParseOptions],
) -> Dataset:
    r"""Ask the same question about every row of a source, and write the rows with their answers to part files.

    Memory is bounded, and the call may be killed at any time: repeating it sends only rows that have no part file, and
    answers received before are in the cache. Needs the extra `dataset`.

    Args:
        source: A Parquet file, a directory or a pattern (`in/*.parquet`), or several of these, as paths or URLs that
            fsspec opens (`s3://…`). All files must have the same columns. Or a Polars LazyFrame, a Dask frame, or an
            object that streams Arrow data, such as a DuckDB relation or a Spark DataFrame.
        out: Directory of the part files, a path or URL. It holds one dataset.
        response_format: As for `df.llm.parse`.
        prompt: As for `df.llm.parse`.
        rows: Maximum rows of a part.
        status: Whether parts have the columns `_pllm_status` (as in `df.llm.status`) and `_pllm_error` (text, null for
            no error).
        **options: As for `df.llm.parse`; `max_cost_usd` is for all parts together.

    Returns:
        The dataset: the parts' paths, and the counts and cost of this call. See its `scan()`, `errors()`, `progress()`
        and `retry()`.

    Raises:
        UsageError: If the arguments are invalid, the files' columns differ, or *out* holds answers to another question.
            Nothing was sent.
        MissingPackageError: If PyArrow is not installed. Nothing was sent.
        BudgetError: If `max_cost_usd` was reached. Parts with a row that was not sent are not written. The same call
            with a higher limit continues.
        ProviderRejectedError: If the key, model or quota was refused. Finished answers are kept.
        KeyboardInterrupt: After an interrupt. Finished answers are kept, and the same call resumes.

    Example:
        pllm.parse_dataset("in/*.parquet", "out/", Review, "Read:\n{text}", max_cost_usd=20).scan().to_table()
    """
    check_row_count(rows)
    if not isinstance(status, bool):
        raise UsageError(f"status is True or False, not {status!r}. Nothing was sent.")
    address = file_path(out, "a dataset's directory")
    given: dict[str, Any] = {**options}
    kind = format_of(response_format, given, "parse_dataset")
    question = Question(kind, prompt, given, rows, status)
    window_for(kind, prompt, {**given}, rows, "parse_dataset")  # rejects an invalid option before a file is opened
    require_pyarrow()
    rows_in, parts = _source_of(source, rows), PartFiles(address)
    parts.check_place()
    question = question._replace(given=rows_in.question(prompt, given))
    window = window_for(kind, prompt, {**question.given}, rows, "parse_dataset")
    if isinstance(rows_in, ParquetSource):
        _check_apart(rows_in.files, parts)
    manifest = _prepared(rows_in, parts, question)
    names: list[str] = []

    def pieces() -> Generator[TablePiece, None, None]:
        there = parts.names()
        for piece in rows_in.pieces(there):
            names.append(piece.name)
            if piece.data is not None:
                yield TablePiece(piece.name, piece.data)

    def write(one: Answered) -> None:
        parts.write(one.piece.name, part_table(one.run, status=status))

    with closing(pieces()) as tables:
        done = write_parts(window, tables, caller(), write)
    if not done.unwritten:
        _complete(parts, manifest, names)
    else:
        names = [name for name in parts.part_names() if name in set(names)]
    return Dataset(
        parts.address,
        tuple(parts.path_of(name) for name in names),
        done.written,
        done.rows,
        done.answered,
        done.failed,
        done.skipped,
        done.cost_usd,
        parts,
        question,
    )


def _source_of(source: Any, rows: int) -> DatasetSource:
    several = [source] if isinstance(source, str | os.PathLike) else source
    if isinstance(several, Sequence) and all(isinstance(each, str | os.PathLike) for each in several):
        return ParquetSource([file_path(each, "a Parquet file, or of a directory of them") for each in several], rows)
    found = dask_source(source, rows) or lazy_source(source, rows) or stream_of(source, rows)
    if found is None:
        raise UsageError(
            f"parse_dataset reads Parquet files, a LazyFrame, a Dask frame or a stream of Arrow data: pass a path, a "
            f"pattern, a list of them, or such a frame, not {type(source).__name__}. Nothing was sent."
        )
    return found


def _prepared(source: DatasetSource, parts: PartFiles, question: Question) -> dict[str, Any]:
    """Return the manifest of the directory, writing it if there is none.

    Raises:
        UsageError: If the question is invalid, or the directory holds something else. Nothing was sent.
    """
    there = parts.manifest()
    if there is None:
        schema = source.schema()
        # An invalid question is rejected before a manifest binds the directory to it.
        accessor = accessor_of(schema.empty_table())
        accessor.estimate(question.response_format, question.prompt, **question.given)
        names, clash = made_columns(accessor, question.response_format, question.prompt, question.given)
        check_columns([*schema.names, *names], status=question.status)
        # Checked here: otherwise a part would fail only after the parts before it are paid for.
        if clash and not options_for({**question.given}).replace:
            raise NameClashError(clash, unread=True)
    described = source.described(there)
    columns = source.schema().names if there is None else there.get("columns", [])
    manifest = manifest_of(question, described, columns)
    if there is not None:
        check_same(there, manifest, parts.address)
        return there
    if parts.part_names() or any(name.endswith(".parquet") for name in parts.names()):
        raise UsageError(
            f"{parts.address} holds Parquet files but no manifest, so it is not a dataset of parse_dataset. Write to "
            f"another directory. Nothing was sent."
        )
    parts.write_manifest(manifest)
    return manifest


def _complete(parts: PartFiles, manifest: Mapping[str, Any], names: Sequence[str]) -> None:
    """Record the complete list of parts. Parts with rows that the source no longer has are set aside."""
    former = sorted({*parts.part_names()}.difference(names))
    for name in former:
        parts.set_aside(name)
    if former:
        caller().warn(
            f"{counted(len(former), 'part')} of {parts.address} had rows that the source no longer has, and got names "
            f"that begin with '_'. Their answers are in the cache."
        )
    if manifest.get("parts") != list(names):
        parts.write_manifest({**manifest, "parts": list(names)})


def _check_apart(files: Sequence[SourceFile], parts: PartFiles) -> None:
    inside = next((file for file in files if file.files == parts.files and _is_in(file, parts)), None)
    if inside is not None:
        raise UsageError(
            f"{inside.path} is in {parts.address}, where the parts would be written: the next call would read them "
            f"as its source. Write to another directory. Nothing was sent."
        )


def _is_in(file: SourceFile, parts: PartFiles) -> bool:
    place = str(file.files._strip_protocol(file.path)).rpartition("/")[0]
    return place == parts.path or (parts.is_local and os.path.realpath(place) == os.path.realpath(parts.path))
