"""Options for a question and its result: model, prompt, rows and result columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pllm_notebook.options.option_fields import option
from pllm_notebook.options.option_values import (
    DATA,
    FRAMES,
    LAB,
    LISTS,
    PARSE,
    CacheUse,
    Mode,
    is_columns,
    is_names,
    is_text,
)

__all__ = ["QuestionOptions"]


@dataclass(frozen=True)
class QuestionOptions:
    """The question, its rows, and the form of the result."""

    model: str | None = option(
        None,
        "Model, as [`provider:name`](models.md). None: the current low-cost model of the first of OpenAI, Anthropic "
        "and Google whose key is in the environment.",
        takes=FRAMES,
        keyed=True,
    )
    system: str | None = option(
        None,
        "System prompt, in which [`{column}`](#prompts) is the row's value. None: no system prompt.",
        takes=FRAMES,
        keyed=True,
    )
    mode: Mode = option(
        "async",
        '`"async"` sends calls concurrently; `"sync"` one at a time in order, raising at the first failure, for '
        'debugging; `"batch"` as the provider\'s [batch jobs](batch.md), at about half the price and within a day.',
        takes=LISTS - {"race", "improve"},
    )
    confirm: bool = option(
        True,
        "Ask before a batch is submitted.",
        more="Without interactive input, nothing is submitted.",
        takes=LISTS,
    )
    wait: bool | None = option(
        None,
        "Wait for a batch's answers. `False`: rows stay pending until the cell is run again. None: a batch waits for "
        "its own jobs; a live run does not wait for rows that are in a job.",
        more="Such a live run names the job and sends nothing for these rows. With `True` it waits for the job.",
        takes=FRAMES - LAB,
    )
    cache: CacheUse = option(
        "use",
        '`"use"` reads and writes; `"refresh"` sends again and replaces; `"only"` never sends; `"off"` neither reads '
        "nor writes.",
        takes=(LISTS | {"request"}) - {"race", "improve"},
    )
    salt: str = option(
        "",
        "Any string. Change it to request a fresh answer, stored beside the first one.",
        takes=(LISTS | {"request"}) - {"recheck"},
        keyed=True,
    )
    errors: Literal["coerce", "raise"] = option(
        "coerce",
        '`"coerce"` keeps a failure as a value; `"raise"` ends the run at the first failure.',
        takes=LISTS - {"race", "improve"},
    )
    prefix: str = option("", "Prefix of every result column's name.", takes=FRAMES)
    replace: bool = option(
        False,
        "Replace existing columns that have the name of a result column, regardless of their contents.",
        more="Otherwise only columns with unchanged answers of an earlier run are replaced. Any other column of the "
        "same name is an error before anything is sent.",
        takes=FRAMES,
    )
    error_column: str | None = option(
        None, "Name of a column for failure messages. None: no such column.", takes=FRAMES
    )
    na: Literal["skip", "send", "raise"] = option(
        "skip",
        'What to do with a row whose prompt would contain a missing value: `"skip"` it, `"send"` it as empty text, or '
        '`"raise"`.',
        takes=FRAMES,
    )
    columns: tuple[str, ...] | None = option(
        None,
        "Columns to send as data if there is no prompt, at least one. None: all.",
        accepts="Sequence[str] | None",
        expects=("a list of column names", is_columns),
        takes=DATA,
    )
    column: str = option(
        "answer",
        "Name of the result column if the type has no fields (`bool`, plain text, …). An error for a type with fields.",
        takes=FRAMES,
    )
    explode: bool | str = option(
        False,
        "With a list type, one row per item, with the row's index repeated. Or the name of a list field: one row per "
        "item of that list, with the other fields repeated.",
        expects=("True, False or the name of a field", lambda value: isinstance(value, bool) or is_text(value)),
        takes=DATA - LAB,
    )
    validation_context: Any = option(
        None,
        "`info.context` of the [type's validators](examples.md#validators-that-need-their-row): one or several "
        "columns, for a dict of the row's cells; a mapping, the same for all rows; or a function that takes the row's "
        "cells as a dict and returns the context. It is not sent. None: no context.",
        accepts="str | Sequence[str] | Mapping[str, Any] | Callable[[dict[str, Any]], Any] | None",
        expects=(
            "a column, a list of columns, a mapping or a function",
            lambda value: callable(value) or isinstance(value, (str, Mapping)) or is_names(value),
        ),
        variable=False,
        takes=PARSE,
    )
    nested: Literal["data", "model", "json"] = option(
        "data",
        '[Nested values](#result-columns): `"data"` as dicts and lists, `"model"` as instances of the type, `"json"` '
        "as JSON text.",
        takes=DATA,
    )
    flatten: bool = option(False, "Put the fields of a nested model into separate columns: `address.city`.", takes=DATA)
