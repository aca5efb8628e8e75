"""Reading and checking of a caller's examples: prompts like those of rows, with answers as a model would write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic_core import to_json

from pllm_notebook.cell_text import as_text, is_missing
from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.formatting import counted
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.near_duplicates import ROLES, roles_of
from pllm_notebook.frames.rows import ColumnData, prompts_of
from pllm_notebook.frames.validation_context import context_of_cells
from pllm_notebook.messages_types import Example
from pllm_notebook.schema import Invalid, OutputType, PlainAnswers
from pllm_notebook.settings import Options
from pllm_notebook.store import Label, LabelFile, current_directory
from pllm_notebook.templates import Template

__all__ = ["ExamplePool", "RowPrompt", "digest_of", "example_pool", "example_roles", "row_texts"]


@dataclass(frozen=True, slots=True)
class RowPrompt:
    """How a row's prompt is made.

    Attributes:
        names: The columns in the prompt, in order.
        template: The compiled prompt, None if the row is sent as labelled data.
        is_column: Whether the rows are a single column, which a prompt names `{value}`.
    """

    names: tuple[str, ...]
    template: Template | None
    is_column: bool = False


@dataclass(frozen=True, slots=True)
class ExamplePool:
    """The examples to choose from, without duplicate inputs.

    Attributes:
        examples: The examples, at least one.
        texts: The text of each example's prompt columns, used to test equality and similarity.
    """

    examples: tuple[Example, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    """One example as given: the cells of its prompt by column, the answer, its name in errors, and all its cells."""

    cells: Mapping[str, Any]
    answer: Any
    named: str
    row: Mapping[str, Any]


_NONE = object()


def row_texts(given: ColumnData, rows: Iterable[int]) -> list[str]:
    """Return the texts of the prompt columns of some rows, for comparison with examples."""
    columns = list(zip(given.values, given.missing, strict=True))
    return ["\n".join("" if missing[row] else as_text(values[row]) for values, missing in columns) for row in rows]


def example_pool(options: Options, asked: RowPrompt, output: OutputType | None) -> ExamplePool:
    """Read `options.examples`.

    Args:
        options: The resolved options.
        asked: How prompts are made.
        output: The type of the answer, None for text.

    Raises:
        UsageError: If columns are missing, an answer is not a value of the type, or there are no examples. Nothing was
            sent.
    """
    lines = list(_lines(options, asked, output))
    if not lines:
        raise UsageError("examples= has no row with an answer. Nothing was sent.")
    data = _cells(asked.names, lines)
    prompts = prompts_of(data, asked.template, options.na)(range(len(lines)))
    plain = None if output is None else PlainAnswers(output)
    made: dict[str, tuple[Example, str]] = {}
    for line, prompt, text in zip(lines, prompts, row_texts(data, range(len(lines))), strict=True):
        if isinstance(prompt, str) and prompt not in made:
            made[prompt] = Example(prompt, _answer(line, output, plain, options)), text
    if not made:
        raise UsageError(
            f"Every example lacks a value in one of {list(asked.names)}, and na='skip' leaves such rows out. "
            f"Nothing was sent."
        )
    return ExamplePool(tuple(example for example, _ in made.values()), tuple(text for _, text in made.values()))


def example_roles(data: Any, columns: str | Sequence[str] | None = None) -> Any:
    """Return the role of each labelled row: "examples" (40 %), "validation" or "test" (30 % each). Sends nothing.

        roles = pllm.example_roles(gold, ["text"])
        out = df.llm.parse(Review, "{text}", examples=gold[roles == "examples"])

    A role is fixed by a hash of the row's text. Near-duplicates share a role, so that no row in an evaluation is nearly
    identical to an example.

    Args:
        data: A frame or a column of any library.
        columns: The columns that a prompt uses, without the label columns. None for all.

    Returns:
        A categorical column in the order of the rows, with the frame's index if the library has one.

    Raises:
        UsageError: If *data* is not a frame or a column, or *columns* is empty or names a column that does not exist.
    """
    table = table_of(data)
    if table is None:
        raise UsageError(f"pllm.example_roles takes a DataFrame or a Series, not {type(data).__name__}.")
    names = (
        list(dict.fromkeys(table.names)) if columns is None else [columns] if isinstance(columns, str) else [*columns]
    )
    if not names:
        raise UsageError("columns= names no column, so that all rows would be the same and have one role.")
    for name in names:
        if name not in table.names:
            raise UnknownColumnError(name, table.names, "columns=")
    roles = roles_of(row_texts(table.column_data(names), range(table.total)))
    codes = [ROLES.index(role) for role in roles]
    return table.frame_library.category_column("role", codes, ROLES, table)


def digest_of(given: Any) -> str | None:
    """Return a short hash of a caller's examples. Text such as "labels" and None are returned unchanged."""
    if given is None or isinstance(given, str):
        return given
    table = table_of(given)
    if table is None:
        items = list(given.items() if isinstance(given, Mapping) else given)
        return sha256(to_json(items, inf_nan_mode="constants", serialize_unknown=True)).hexdigest()[:16]
    names = list(dict.fromkeys(table.names))
    hashes = content_hashes([table.column_data(names)], table.total)
    return sha256(repr(names).encode() + hashes.tobytes()).hexdigest()[:16]


def _cells(names: Sequence[str], lines: Sequence[_Line]) -> ColumnData:
    values = tuple([line.cells[name] for line in lines] for name in names)
    return ColumnData(tuple(names), values, tuple([is_missing(cell) for cell in own] for own in values), len(lines))


def _answer(line: _Line, output: OutputType | None, plain: PlainAnswers | None, options: Options) -> str:
    """Return an answer as the model would write it: text, or JSON of the type."""
    if output is None or plain is None:
        if not isinstance(line.answer, str):
            raise UsageError(
                f"{line.named} has the answer {line.answer!r:.100}, and the answer is text. Nothing was sent."
            )
        return line.answer
    value = plain.of(line.answer, context_of_cells(options.validation_context, line.row))
    if isinstance(value, Invalid):
        raise UsageError(f"{line.named} has an answer that is no {output.name}: {value.message}. Nothing was sent.")
    return to_json(value, inf_nan_mode="constants").decode()


def _lines(options: Options, asked: RowPrompt, output: OutputType | None) -> Iterable[_Line]:
    given = options.examples
    if isinstance(given, str):
        return _stored(options, asked, output)
    table = table_of(given)
    if table is not None:
        data = table.column_data(list(dict.fromkeys(table.names)))
        columns = dict(zip(data.names, zip(data.values, data.missing, strict=True), strict=True))
        rows = [
            {name: None if missing[row] else values[row] for name, (values, missing) in columns.items()}
            for row in range(table.total)
        ]
        return _rows(rows, options, asked, output)
    if isinstance(given, Mapping):
        given = list(given.items())
    if not isinstance(given, Iterable):
        raise UsageError(f"examples= is a frame, a list or 'labels', not {type(given).__name__}. Nothing was sent.")
    items = list(given)
    if all(isinstance(one, Mapping) for one in items):
        return _rows(items, options, asked, output)
    return [_pair(at, one, asked) for at, one in enumerate(items)]


def _rows(
    rows: Sequence[Mapping[str, Any]], options: Options, asked: RowPrompt, output: OutputType | None
) -> Iterable[_Line]:
    """Yield the rows that have an answer, in one column per field or in a single column."""
    if not rows:
        return
    there = list(dict.fromkeys(name for row in rows for name in row))
    sources = {name: _source(name, there, asked) for name in asked.names}
    for at, row in enumerate(rows):
        answer = _answer_of(row, options, output, there)
        if answer is not _NONE:
            cells = {name: row.get(source) for name, source in sources.items()}
            yield _Line(cells, answer, f"Row {at} of examples=", row)


def _source(name: str, there: Sequence[str], asked: RowPrompt) -> str:
    if name in there:
        return name
    if asked.is_column and "value" in there:
        return "value"
    raise UnknownColumnError(name, there, "The question", there="examples=")


def _answer_of(row: Mapping[str, Any], options: Options, output: OutputType | None, there: Sequence[str]) -> Any:
    """Return a row's answer, `_NONE` for a row without one."""
    if output is None or output.fields is None:
        column = _answer_column(options.column, options.prefix, there)
        value = row.get(column)
        return _NONE if _is_none(value) and not (output is not None and output.takes_null) else value
    found: dict[str, Any] = {}
    for field in output.fields:
        if field.required or any(name in there for name in (options.prefix + field.name, field.name)):
            value = row.get(_answer_column(field.name, options.prefix, there))
            found[field.alias] = None if _is_none(value) else value
    if all(value is None for value in found.values()):
        return _NONE
    # A missing value means the default for a field that has one, and otherwise null, which the type may not accept.
    return {
        field.alias: found[field.alias]
        for field in output.fields
        if field.alias in found and (field.required or found[field.alias] is not None)
    }


def _answer_column(name: str, prefix: str, there: Sequence[str]) -> str:
    for each in (prefix + name, name):
        if each in there:
            return each
    raise UnknownColumnError(name, there, "The answer", there="examples=")


def _is_none(value: Any) -> bool:
    return False if isinstance(value, (list, dict)) else is_missing(value)


def _pair(at: int, one: Any, asked: RowPrompt) -> _Line:
    if isinstance(one, (str, Mapping)) or not isinstance(one, Sequence) or len(one) != 2:
        raise UsageError(
            f"Item {at} of examples= is {one!r:.100}, where a list of pairs (input, answer) or of mappings, one for "
            f"each row, is expected. Nothing was sent."
        )
    given, answer = one
    row = given if isinstance(given, Mapping) else {asked.names[0]: given}
    if isinstance(given, Mapping):
        there = list(given)
        cells = {name: given[_source(name, there, asked)] for name in asked.names}
    elif len(asked.names) == 1:
        cells = {asked.names[0]: given}
    else:
        raise UsageError(
            f"Item {at} of examples= has the input {given!r:.100}, and a row is asked about by several columns, "
            f"{list(asked.names)}: give a mapping of them. Nothing was sent."
        )
    return _Line(cells, answer, f"Item {at} of examples=", row)


def _stored(options: Options, asked: RowPrompt, output: OutputType | None) -> Iterable[_Line]:
    """Return the rows with the role "examples" whose stored labels make a whole answer.

    The other rows are held out, because rows shown in a prompt cannot test it.
    """
    wanted = [options.column] if output is None or output.fields is None else [field.name for field in output.fields]
    required = wanted if output is None or output.fields is None else [f.name for f in output.fields if f.required]
    by_row: dict[tuple[tuple[str, ...], int], dict[str, Label]] = {}
    for label in LabelFile(current_directory()).current():  # oldest first
        if label.row is not None and label.field in wanted and all(name in label.row for name in asked.names):
            by_row.setdefault((label.columns, label.content), {})[label.field] = label
    whole = [found for found in by_row.values() if all(name in found for name in required)]
    if not whole:
        some = (
            f" {counted(len(by_row), 'row')} {'has' if len(by_row) == 1 else 'have'} labels of some of them."
            if by_row
            else ""
        )
        raise UsageError(
            f"examples='labels': the cache directory has no row with the columns {list(asked.names)} and labels of "
            f"{required}.{some} df.llm.label(against='column', field=…) stores those of a column. Nothing was sent."
        )
    kept = []
    for found in whole:
        row = next(iter(found.values())).row or {}
        answer: Any = {name: label.value for name, label in found.items()}
        if output is None or output.fields is None:
            answer = answer[options.column]
        else:
            answer = {field.alias: answer[field.name] for field in output.fields if field.name in answer}
        kept.append(_Line({name: row[name] for name in asked.names}, answer, f"The label of {row!r:.100}", row))
    roles = roles_of(row_texts(_cells(asked.names, kept), range(len(kept))))
    shown = [line for line, role in zip(kept, roles, strict=True) if role == "examples"]
    if not shown:
        raise UsageError(
            f"examples='labels': of {counted(len(kept), 'labelled row')} none has the role of an example; the others "
            f"are kept for evaluation, by a hash of their text. Label more rows. Nothing was sent."
        )
    return shown
