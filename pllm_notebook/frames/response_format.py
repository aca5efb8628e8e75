"""The type of an answer, from `response_format=` or its old name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import options_for
from pllm_notebook.frames.result_columns import ResultColumns, is_column_read
from pllm_notebook.options import unread
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options

__all__ = ["NOT_GIVEN", "columns_as_before", "format_of", "output_of", "read_options"]


class _NotGiven:
    def __repr__(self) -> str:
        return "<required>"


NOT_GIVEN: Any = _NotGiven()
"""No type: an error, where None would be plain text."""

# Old names of the keyword, still accepted.
_OLD_NAMES = ("kind",)


def format_of(response_format: Any, options: dict[str, Any], where: str) -> Any:
    """Return the type that was given, removing its old names from *options*.

    Args:
        response_format: As given, `NOT_GIVEN` for nothing.
        options: The keywords of the call; changed.
        where: Name of the method, for errors.

    Raises:
        UsageError: Where there is none, or there are two. Nothing was sent.
    """
    for name in _OLD_NAMES:
        if name in options:
            if response_format is not NOT_GIVEN:
                raise UsageError(
                    f"{name}= is the old name of response_format=. Pass only one of them. Nothing was sent."
                )
            response_format = options.pop(name)
    if response_format is NOT_GIVEN:
        raise UsageError(
            f"{where} needs the type of the answer, response_format=: a Pydantic model, a type such as bool or "
            f"list[str], or a JSON schema. For plain text, use complete. Nothing was sent."
        )
    return response_format


def output_of(response_format: Any, options: Options) -> OutputType | None:
    """Compile a type whose values become columns; None for plain text.

    Raises:
        UsageError: For anything that is not a type, and for quotes of plain text. Nothing was sent.
    """
    if response_format is None:
        if options.evidence:
            raise UsageError("evidence=True quotes the row for each field of a type, and plain text has none. Use "
                             "parse, or leave it out. Nothing was sent.")  # fmt: skip
        return None
    output = OutputType.of(response_format).for_columns(
        items=options.explode or False, flatten=options.flatten, data=options.nested == "data"
    )
    if not options.evidence:
        return output
    _check_evidence(options)
    return output.with_evidence()


def columns_as_before(response_format: Any, options: Options, fields: Sequence[str], run_id: str) -> ResultColumns:
    """Return the columns of a type that the answers of a run are to be read with.

    Args:
        response_format: The type.
        options: Of the run.
        fields: Names of the columns that the run made.
        run_id: For the message.

    Raises:
        UsageError: Where the type makes others.
    """
    shape = ResultColumns(output_of(response_format, options), options)
    made = [column.name for column in shape.columns]
    if made != list(fields):
        raise UsageError(
            f"The run {run_id!r} made the columns {list(fields)!r}, and response_format= makes {made!r}. Pass the type "
            f"that the run was asked with."
        )
    return shape


def read_options(response_format: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of an earlier run's options that do something: what was configured for other calls is among them.

    Args:
        response_format: The run's type, None for text.
        given: Its options.
    """
    options = options_for({**given})
    left_out = set(unread(given, options))
    if not is_column_read(ResultColumns(output_of(response_format, options), options), options):
        left_out.add("column")
    return {name: value for name, value in given.items() if name not in left_out}


def _check_evidence(options: Options) -> None:
    """Check that nothing else is asked for that quotes cannot be had with.

    Raises:
        UsageError: Naming the option. Nothing was sent.
    """
    refused = (
        (options.cache == "off", "cache='off'", "quotes are read from the cache"),
        (options.pack is not None and options.pack > 1, "pack=", "a quote is looked for in one row"),
        (options.samples > 1, "samples=", "quotes are of one answer a row"),
        (options.probabilities is not None, "probabilities=", "the probabilities are of an answer alone"),
        (len(options.models or ()) > 1, "models=", "quotes are of one answer a row"),
        (options.guarantee is not None, "guarantee=", "its confidence is of an answer alone"),
        (
            options.evidence == "retry" and options.images is not None,
            "images=",
            "a quote from an image is never verified, so that every row would be asked twice",
        ),
    )
    for given, option, why in refused:
        if given:
            raise UsageError(
                f"evidence={options.evidence!r} cannot be combined with {option}: {why}. Leave one out. Nothing was "
                f"sent."
            )
