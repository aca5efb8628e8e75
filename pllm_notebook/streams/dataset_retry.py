"""Retry the failed rows of a dataset, using only the parts, which have the columns of the source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pllm_notebook.callers import Caller
from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import FailureKind, kinds_named
from pllm_notebook.streams.batches import window_for
from pllm_notebook.streams.manifest import Question, check_same, manifest_of
from pllm_notebook.streams.part_answers import ERROR, STATUS, PartCounts, part_table, row_of_line, write_parts
from pllm_notebook.streams.part_files import PartFiles
from pllm_notebook.streams.table_window import Answered, TablePiece

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["retry_parts"]

# Manifest fields about the source, which a retry does not read.
_OF_SOURCE = ("files", "pieces", "source")


def retry_parts(
    parts: PartFiles,
    manifest: Mapping[str, Any],
    question: Question,
    kinds: Sequence[str] | None,
    called_by: Caller,
) -> PartCounts:
    """Retry failed rows and write their parts with the new answers.

    Args:
        parts: The directory.
        manifest: Its manifest.
        question: The question of the manifest.
        kinds: Failure kinds to retry. None for those that can succeed unchanged.
        called_by: The line that warnings name.

    Raises:
        UsageError: If the parts do not record which rows failed, or the question differs. Nothing was sent.
    """
    wanted = _passing() if kinds is None else kinds_named(kinds)
    if not manifest["status"] or "columns" not in manifest:
        raise UsageError(
            f"The parts of {parts.address} do not say which rows failed. Delete a part, and repeat the call of "
            f"parse_dataset: what has an answer comes from the cache. Nothing was sent."
        )
    source = {name: manifest[name] for name in _OF_SOURCE if name in manifest}
    check_same(manifest, manifest_of(question, source, manifest["columns"]), parts.address)
    options = question.given | {"cache": "refresh"}  # a stored failure must not be returned again
    window = window_for(question.response_format, question.prompt, options, question.rows, "retry", written=False)
    lines: dict[str, list[int]] = {}

    def pieces() -> Iterator[TablePiece]:
        for name in parts.part_names():
            messages = parts.read(name, [ERROR])[ERROR].to_pylist()
            found = [at for at, text in enumerate(messages) if text and text.partition(":")[0] in wanted]
            if found:
                lines[name] = found
                part = parts.read(name)
                yield TablePiece(
                    name, part.select([n for n in manifest["columns"] if n in part.schema.names]).take(found)
                )

    def write(one: Answered) -> None:
        name = one.piece.name
        parts.write(name, _with_new_lines(parts.read(name), one, lines.pop(name)))

    return write_parts(window, pieces(), called_by, write)


def _passing() -> frozenset[FailureKind]:
    also = (FailureKind.BUDGET, FailureKind.NOT_CACHED)
    return frozenset(kind for kind in FailureKind if kind.retried or kind.fatal or kind in also)


def _with_new_lines(part: pa.Table, one: Answered, lines: Sequence[int]) -> pa.Table:
    """Return a part with *lines* replaced by the lines of a run."""
    import pyarrow as pa

    made = part_table(one.run, status=STATUS in part.schema.names)
    made = made.select(part.schema.names).cast(part.schema)
    origin = row_of_line(one.run)
    places = [lines[row] for row in (range(len(lines)) if origin is None else origin)]
    old = sorted(set(range(part.num_rows)).difference(lines))
    both = pa.concat_tables([part.take(pa.array(old, pa.int64())), made]).unify_dictionaries()
    order = sorted(range(both.num_rows), key=[*old, *places].__getitem__)
    return both.take(pa.array(order, pa.int64()))
