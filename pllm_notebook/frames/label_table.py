"""`pllm.labels`: the labels of the cache directory, as a table and as files to export."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any

import orjson

from pllm_notebook.callers import caller_stack_level
from pllm_notebook.exceptions import FileError, MissingPackageError, UsageError, guess
from pllm_notebook.file_errors import file_errors, file_path
from pllm_notebook.files import replacing
from pllm_notebook.formatting import escape_html
from pllm_notebook.frames.dtypes import CellType
from pllm_notebook.frames.libraries import default_library
from pllm_notebook.report_tables import html_table, text_table
from pllm_notebook.store import Label, LabelFile, current_directory, label_from_json, label_to_json

__all__ = ["Labels", "LabelsOf", "labels", "read_labels", "store_labels", "write_labels"]

_COLUMNS = {
    "when": CellType.MOMENT,
    "field": CellType.TEXT,
    "value": CellType.TEXT,
    "by": CellType.TEXT,
    "drawn_by": CellType.TEXT,
    "pi": CellType.REAL,
    "note": CellType.TEXT,
    "run": CellType.TEXT,
    "row": CellType.TEXT,
    "columns": CellType.TEXT,
    "content": CellType.TEXT,
}
_TEXTS = [name for name, kind in _COLUMNS.items() if kind is CellType.TEXT]


_NONE = "No labels."


class Labels(Sequence[Label]):
    """Labels, oldest first: the newest label of each person for each row and field.

    The display counts them by field and person. `.frame` has one line per label.

    Args:
        labels: The labels, oldest first.
        none: The text to show if there are none.
    """

    def __init__(self, labels: Sequence[Label], none: str = _NONE) -> None:
        self._labels = list(labels)
        self.none = none

    def __getitem__(self, at: Any) -> Any:
        return Labels(self._labels[at]) if isinstance(at, slice) else self._labels[at]

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        return text_table([_HEAD, *self._counts()]) if self._labels else self.none

    def _repr_html_(self) -> str:
        return html_table(_HEAD, self._counts()) if self._labels else f"<p>{escape_html(self.none)}</p>"

    @property
    def frame(self) -> Any:
        """One line per label.

        Columns: when (UTC), field, value (as JSON), by, drawn_by, pi, note, run, row (its cells as JSON), columns
        (the identifying columns, as JSON) and content (the hash of their cells).
        """
        return default_library().report(_COLUMNS, [_line(label) for label in self._labels])

    def kappa(self, field: str, one: str, other: str) -> float:
        """Return the agreement of two persons beyond chance on the rows that both labelled (Cohen, 1960), or NaN.

        Args:
            field: The answer's field.
            one: A person's name (`by`).
            other: The other person's name.

        Raises:
            UsageError: If an argument is not text.
        """
        for name in (field, one, other):
            if not isinstance(name, str):
                raise UsageError(f"kappa takes a field and two persons by their names, not {name!r}.")
        said: dict[str, dict[tuple[Any, int], str]] = {one: {}, other: {}}
        for label in self._labels:
            if label.field == field and label.by in said:
                said[label.by][label.columns, label.content] = _json(label.value)
        both = [(value, said[other][row]) for row, value in said[one].items() if row in said[other]]
        if not both:
            return float("nan")
        agreed = sum(mine == yours for mine, yours in both) / len(both)
        mine, yours = (Counter(pair[at] for pair in both) for at in (0, 1))
        by_chance = sum(times * yours[value] for value, times in mine.items()) / len(both) ** 2
        return (agreed - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")

    def _counts(self) -> Iterator[Sequence[str]]:
        for (field, by), times in Counter((label.field, label.by) for label in self._labels).items():
            values = Counter(_json(label.value) for label in self._labels if (label.field, label.by) == (field, by))
            common = ", ".join(f"{value} {count:,}" for value, count in values.most_common(5))
            yield field, by, f"{times:,}", common


_WHAT = "a file of labels"
_HEAD = ("field", "by", "labels", "most common")


class LabelsOf:
    """`pllm.labels`: call it to list the labels, or use `export`, `import_` and `remove`. Sends nothing."""

    def __call__(self, field: str | None = None, *, by: str | None = None) -> Labels:
        """List the labels of the cache directory.

        Args:
            field: Only labels of this field. None for all.
            by: Only labels of this person. None for all.

        Raises:
            UsageError: If an argument is not text.
        """
        for name, wanted in (("field", field), ("by", by)):
            if wanted is not None and not isinstance(wanted, str):
                raise UsageError(f"{name}= is text, such as pllm.labels(by='me'), not {wanted!r}.")
        every = LabelFile(current_directory()).current()
        found = [label for label in every if field in (None, label.field) and by in (None, label.by)]
        return Labels(found, _NONE if found else _none_of(every, field, by))

    def export(self, path: str | os.PathLike[str], field: str | None = None) -> int:
        """Write labels to a file, which `import_` reads in another cache directory.

        Args:
            path: Path ending in .parquet or .csv. An existing file is replaced.
            field: Only labels of this field. None for all.

        Returns:
            The number of labels written.

        Raises:
            FileError: If it cannot be written. An existing file is not changed.
            MissingPackageError: For Parquet, if PyArrow is not installed.
            UsageError: If there are labels but none of *field*.
        """
        found = self(field)
        if field is not None and not found and len(self()):
            raise UsageError(f"{found.none} Nothing was written.")
        return write_labels(path, found)

    def import_(self, path: str | os.PathLike[str]) -> int:
        """Import labels written by `export` into the cache directory. Existing labels are skipped.

        Returns:
            The number of new labels.

        Raises:
            FileError: If the file cannot be read.
            UsageError: If it contains no labels.
        """
        return store_labels(read_labels(path))

    def remove(self, labels: Sequence[Label]) -> int:
        """Delete labels, such as `pllm.labels(by="me")`. Older labels of the same person then count again."""
        if not isinstance(labels, Sequence) or not all(isinstance(label, Label) for label in labels):
            raise UsageError(
                f"pllm.labels.remove takes labels, such as pllm.labels(by='me'), not {labels!r:.60}. "
                f"Nothing was deleted."
            )
        # Without the warning, a misspelt name would go unnoticed.
        if isinstance(labels, Labels) and not labels and labels.none != _NONE:
            warnings.warn(f"{labels.none} Nothing was deleted.", stacklevel=caller_stack_level())
        return LabelFile(current_directory()).remove([label.id for label in labels])

    def __repr__(self) -> str:
        return repr(self())

    def _repr_html_(self) -> str:
        return self()._repr_html_()


labels = LabelsOf()


def _none_of(every: Sequence[Label], field: str | None, by: str | None) -> str:
    """Return the message that a field or person has no labels, with the existing fields and persons."""
    if not every:
        return _NONE
    wanted = [(word, name) for word, name in (("of the field", field), ("by", by)) if name is not None]
    fields, people = (dict.fromkeys(getattr(label, name) for label in every) for name in ("field", "by"))
    near = "".join(guess(name, known) for name, known in ((field, fields), (by, people)) if name not in (None, *known))
    named = " ".join(f"{word} {name!r}" for word, name in wanted)
    return (
        f"There are no labels {named}.{near} There are labels of {', '.join(map(repr, fields))} by "
        f"{', '.join(map(repr, people))}."
    )


def write_labels(path: str | os.PathLike[str], given: Sequence[Label]) -> int:
    """Write labels to a file for `read_labels`, and return how many were written (see `LabelsOf.export`)."""
    lines = [_line(label) for label in given]
    target = file_path(path, _WHAT, "Nothing was written.")
    is_parquet = _is_parquet(target)
    write = _write_parquet if is_parquet else _write_csv
    with file_errors(target, _WHAT, "Nothing was written.", writing=True), replacing(target, mode=0o666) as file:
        write(file, lines)
    return len(lines)


def read_labels(path: str | os.PathLike[str]) -> list[Label]:
    """Read the labels that `write_labels` wrote (see `LabelsOf.import_`)."""
    target = file_path(path, _WHAT, "Nothing was stored.")
    is_parquet = _is_parquet(target)
    try:
        with file_errors(target, _WHAT, "Nothing was stored."):
            lines = _read_parquet(target) if is_parquet else _read_csv(target)
        return [_label(line) for line in lines]
    except FileError:  # also a ValueError, but its message is already complete
        raise
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise UsageError(
            f"{target} holds no labels: a line lacks what pllm.labels.export writes ({type(error).__name__}: "
            f"{error}). For labels in a column of your own, df.llm.label(against='column'). Nothing was stored."
        ) from error


def store_labels(given: Sequence[Label]) -> int:
    """Add labels to the cache directory and return how many were new (see `LabelFile.merge`)."""
    return LabelFile(current_directory()).merge(given)


def _line(label: Label) -> dict[str, Any]:
    return {
        "when": datetime.fromtimestamp(label.at, UTC),
        "field": label.field,
        "value": _json(label.value),
        "by": label.by,
        "drawn_by": label.drawn_by,
        "pi": label.pi,
        "note": label.note,
        "run": label.run,
        "row": None if label.row is None else _json(label.row),
        "columns": _json(list(label.columns)),
        "content": f"{label.content:016x}",
    }


def _label(line: Mapping[str, Any]) -> Label:
    when = line["when"]
    moment = when if isinstance(when, datetime) else datetime.fromisoformat(str(when))
    pi = line["pi"]
    row = line["row"]
    label = Label(
        columns=tuple(orjson.loads(line["columns"])),
        content=int(line["content"], 16),
        field=line["field"],
        value=orjson.loads(line["value"]),
        by=line["by"] or "",
        at=(moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(),
        drawn_by=line["drawn_by"] or None,
        pi=float(pi) if pi not in (None, "") else None,
        note=line["note"] or None,
        run=line["run"] or None,
        row=orjson.loads(row) if row else None,
    )
    if label_from_json(label_to_json(label)) is None:
        raise ValueError(f"{str(dict(line))[:200]} can be no label")
    return label


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _is_parquet(path: str) -> bool:
    if not path.endswith((".parquet", ".csv")):
        raise UsageError(f"Labels are in files whose names end in .parquet or .csv, not {path!r}.")
    return path.endswith(".parquet")


def _arrow() -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingPackageError("labels in Parquet", "pyarrow", "parquet") from None
    return parquet


def _write_csv(file: IO[bytes], lines: Sequence[Mapping[str, Any]]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.DictWriter(text, list(_COLUMNS))
    writer.writeheader()
    writer.writerows({**line, "when": line["when"].isoformat()} for line in lines)
    text.detach()  # flushed, and left open for the caller to close


def _write_parquet(file: IO[bytes], lines: Sequence[Mapping[str, Any]]) -> None:
    parquet = _arrow()
    import pyarrow as pa

    kinds = {name: pa.string() for name in _TEXTS} | {"when": pa.timestamp("us", tz="UTC"), "pi": pa.float64()}
    schema = pa.schema([(name, kinds[name]) for name in _COLUMNS])
    parquet.write_table(pa.Table.from_pylist([dict(line) for line in lines], schema=schema), file)


def _read_parquet(path: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = _arrow().read_table(path).to_pylist()
    return lines


def _read_csv(path: str) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
