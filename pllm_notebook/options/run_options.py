"""The options of a run. To add one, add a field to the class of its subject, and the code that reads it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pllm_notebook.options.answer_options import AnswerOptions
from pllm_notebook.options.example_options import ExampleOptions
from pllm_notebook.options.generation_options import GenerationOptions
from pllm_notebook.options.limit_options import LimitOptions
from pllm_notebook.options.option_fields import option
from pllm_notebook.options.option_values import (
    ALL_BUT_DECIDE,
    CALLS,
    FRAMES,
    LISTS,
    ROWS,
    CacheUse,
    Effort,
    Mode,
    ServiceTier,
    Voting,
    is_names,
    is_paths,
)
from pllm_notebook.options.question_options import QuestionOptions

__all__ = ["CacheUse", "Effort", "Mode", "Options", "ServiceTier", "Voting", "given_options"]

_VIEWS = ("view", "bar")


# The fields of the last base class come first.
@dataclass(frozen=True, slots=True)
class Options(GenerationOptions, LimitOptions, ExampleOptions, AnswerOptions, QuestionOptions):
    """The resolved options of one run. Every front end uses the same names.

    Each field has the option's description, default and bounds; docs/options.md is generated from them.
    """

    images: tuple[str, ...] | None = option(
        None,
        "Columns whose cells are [images or PDF documents](tools.md#images-and-documents) for the model. None: no "
        "images.",
        accepts="str | Sequence[str] | None",
        expects=("the name of a column, or a list of names", lambda value: isinstance(value, str) or is_names(value)),
        takes=ALL_BUT_DECIDE,
        keyed=True,
    )
    images_from: tuple[str, ...] | None = option(
        None,
        "Directories, including their subdirectories, in which files of `images` columns must be, after resolving "
        'symlinks. None: the working directory. `"anywhere"` allows any file.',
        accepts="str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None",
        expects=("a directory, or a list of them", is_paths),
        takes=FRAMES,
        read_with="images",
    )
    tools: tuple[Any, ...] | None = option(
        None,
        "Tools that the model [may call](tools.md): functions, Pydantic models, `StructuredTool`s, or definitions as "
        "mappings. None: no tools.",
        accepts="Sequence[Any] | None",
        expects=("a list of functions, models or definitions", lambda value: isinstance(value, (list, tuple))),
        variable=False,
        takes=ROWS,
        keyed=True,
    )
    tool_choice: str = option(
        "auto",
        '`"auto"` lets the model choose, `"required"` makes it call a tool, `"none"` prevents tool calls, and a name '
        "makes it call that tool.",
        takes=CALLS,
        keyed=True,
    )
    parallel_tool_calls: bool | None = option(
        None,
        "Whether the model may call several tools at once. None: the provider's default.",
        takes=CALLS,
        keyed=True,
    )
    run_tools: bool = option(
        False,
        "Run the functions that the model calls and send back their results, until it answers.",
        takes=CALLS - {"call_tools"},
    )
    max_turns: int = option(
        8,
        "With `run_tools`, the maximum number of replies for one answer, including the answer.",
        at_least=1,
        takes=CALLS - {"call_tools"},
        read_with="run_tools",
    )
    progress: bool | str = option(
        True,
        'Progress display: `"view"`, which in a notebook includes a sample of rows and answers; `"bar"`, which shows '
        "counts but no text of rows; or `False` for nothing.",
        more='`True` is `"view"`. In a terminal or a script, both are a bar.',
        accepts='bool | Literal["view", "bar"]',
        choices=_VIEWS,
        expects=('True, False, "view" or "bar"', lambda value: isinstance(value, bool) or value in _VIEWS),
        takes=LISTS,
    )
    save_rows: bool = option(
        False,
        "Whether the page that a run leaves in the notebook contains its last sample rows. Everyone who gets the file "
        "can read them.",
        takes=LISTS,
    )


_DEFAULTS = Options()


def given_options(options: Options) -> dict[str, Any]:
    """Return the options that differ from their defaults, by name."""
    given = {each.name: getattr(options, each.name) for each in fields(Options)}
    # A frame is not compared with a default of None, because pandas would compare each of its cells.
    return {
        name: value
        for name, value in given.items()
        if value is not (default := getattr(_DEFAULTS, name)) and (default is None or value != default)
    }
