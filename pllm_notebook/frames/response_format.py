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
"""No type was given, which is an error. None means plain text."""

# Old names of the keyword, still accepted.
_OLD_NAMES = ("kind",)


def format_of(response_format: Any, options: dict[str, Any], where: str) -> Any:
    """Return the given type, and remove its old names from *options*.

    Args:
        response_format: As given, `NOT_GIVEN` if it was not.
        options: The keywords of the call; changed in place.
        where: Name of the method, for errors.

    Raises:
        UsageError: If there is no type, or there are two. Nothing was sent.
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
        UsageError: If it is not a type, or evidence is requested for plain text. Nothing was sent.
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
    """Return the columns of the type with which the answers of a run are read.

    Args:
        response_format: The type.
        options: The run's options.
        fields: Names of the columns that the run made.
        run_id: The run's id, for the message.

    Raises:
        UsageError: If the type makes different columns.
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
    """Return those options of an earlier run that have an effect. Others may have been configured for other calls.

    Args:
        response_format: The run's type, None for text.
        given: The run's options.
    """
    options = options_for({**given})
    left_out = set(unread(given, options))
    if not is_column_read(ResultColumns(output_of(response_format, options), options), options):
        left_out.add("column")
    return {name: value for name, value in given.items() if name not in left_out}


def _check_evidence(options: Options) -> None:
    """Check that no option is set that cannot be combined with `evidence=`.

    Raises:
        UsageError: If one is set. The message names it. Nothing was sent.
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
