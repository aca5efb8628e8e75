"""The options of a run, one field each: to add one, add a field (and what reads it)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from pllm_notebook.option_fields import ABOVE_ZERO, one_of, option

__all__ = ["CacheUse", "Effort", "Mode", "Options", "ServiceTier", "Voting"]

Mode = Literal["async", "sync", "batch"]
CacheUse = Literal["use", "refresh", "only", "off"]
Effort = Literal["none", "minimal", "low", "medium", "high", "max"]
ServiceTier = Literal["auto", "standard", "flex", "priority"]


class Voting(Protocol):
    """What `Vote(…)` is to a type checker."""

    @property
    def numbers(self) -> str:
        """The rule for numbers."""

    @property
    def lists(self) -> str:
        """The rule for lists."""


# The front ends: methods of `df.llm`, lists of prompts, one call of a program, one request of `ParallelLLM`.
_ROWS = frozenset({"parse", "complete"})
_ALL_BUT_DECIDE = _ROWS | {"call_tools"}
_FRAMES = _ALL_BUT_DECIDE | {"decide"}
_DATA = _FRAMES - {"complete"}
_LISTS = _FRAMES | {"prompt_list"}
_CALLS = _LISTS | {"ask_llm"}


def _is_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def _is_columns(value: Any) -> bool:
    return not isinstance(value, str) and all(isinstance(item, str) for item in value)


def _is_models(value: Any) -> bool:
    return bool(value) and _is_columns(value)


def _is_paths(value: Any) -> bool:
    paths = value if isinstance(value, (list, tuple)) else [value]
    return bool(paths) and all(isinstance(one, (str, os.PathLike)) and os.fspath(one) for one in paths)


def _is_stop(value: Any) -> bool:
    return bool(value) and (isinstance(value, str) or (_is_names(value) and all(value)))


_VIEWS = ("view", "bar")
_DECIDE = ("vote", "judge", "escalate")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one run, as resolved. Every front end uses the same names.

    What each does, its default and its bounds are in its field; docs/options.md is made from them.
    """

    model: str | None = option(
        None,
        "Model, as [`provider:name`](models.md). None: the current low-cost model of the first of OpenAI, Anthropic "
        "and Google whose key is in the environment.",
        takes=_FRAMES,
        keyed=True,
    )
    system: str | None = option(
        None,
        "System prompt, in which [`{column}`](#prompts) is the row's value. None: no system prompt.",
        takes=_FRAMES,
        keyed=True,
    )
    mode: Mode = option(
        "async",
        '`"async"` sends calls concurrently; `"sync"` one at a time in order, raising at the first failure, for '
        'debugging; `"batch"` as the provider\'s [batch jobs](batch.md), at about half the price and within a day.',
        takes=_LISTS,
    )
    confirm: bool = option(
        True,
        "Ask before a batch is submitted.",
        more="Without interactive input, nothing is submitted.",
        takes=_LISTS,
    )
    wait: bool | None = option(
        None,
        "Wait for a batch's answers. `False`: rows stay pending until the cell is run again. None: a batch waits for "
        "its own jobs; a live run does not wait for rows that are in a job.",
        more="Such a live run names the job and sends nothing for these rows; with `True` it waits for the job.",
        takes=_FRAMES,
    )
    cache: CacheUse = option(
        "use",
        '`"use"` reads and writes; `"refresh"` sends again and replaces; `"only"` never sends; `"off"` neither reads '
        "nor writes.",
        takes=_LISTS | {"request"},
    )
    salt: str = option(
        "",
        "Any string. Change it to request a fresh answer, stored beside the first one.",
        takes=_LISTS | {"request"},
        keyed=True,
    )
    errors: Literal["coerce", "raise"] = option(
        "coerce",
        '`"coerce"` keeps a failure as a value; `"raise"` ends the run at the first failure.',
        takes=_LISTS,
    )
    prefix: str = option("", "Prefix of every result column's name.", takes=_FRAMES)
    replace: bool = option(
        False,
        "Replace columns that have a result column's name, whatever they hold.",
        more="Otherwise only columns that hold, unchanged, the answers of an earlier run are replaced; any other "
        "column of the name is an error before anything is sent.",
        takes=_FRAMES,
    )
    error_column: str | None = option(
        None, "Name of a column for failure messages. None: no such column.", takes=_FRAMES
    )
    na: Literal["skip", "send", "raise"] = option(
        "skip",
        'What to do with a row whose prompt would contain a missing value: `"skip"` it, `"send"` it as empty text, or '
        '`"raise"`.',
        takes=_FRAMES,
    )
    columns: tuple[str, ...] | None = option(
        None,
        "Columns that are sent as data if there is no prompt. None: all.",
        accepts="Sequence[str] | None",
        expects=("a list of column names", _is_columns),
        takes=_DATA,
    )
    column: str = option(
        "answer", "Name of the result column if the type has no fields (`bool`, plain text, …).", takes=_FRAMES
    )
    explode: bool | str = option(
        False,
        "With a list type, one row per item, with the row's index repeated. The name of a list field: one row per "
        "item of that list, the other fields repeated.",
        expects=("True, False or the name of a field", lambda value: isinstance(value, (bool, str))),
        takes=_DATA,
    )
    nested: Literal["data", "model", "json"] = option(
        "data",
        '[Nested values](#result-columns): `"data"` as dicts and lists, `"model"` as instances of the type, `"json"` '
        "as JSON text.",
        takes=_DATA,
    )
    flatten: bool = option(
        False, "Make the fields of a nested model columns of their own: `address.city`.", takes=_DATA
    )
    pack: int | None = option(
        None,
        "Rows per call: `10` sends ten rows in one call, and stores each answer separately. None or 1: one row per "
        "call.",
        more="[Benefits and risks](packing.md).",
        at_least=1,
        takes=_ROWS,
        keyed=True,
    )
    samples: int = option(
        1,
        "[Answers to each row](ensembles.md) from each model. The first is the plain call; each is stored separately.",
        at_least=1,
        takes=_ROWS,
    )
    models: tuple[str, ...] | None = option(
        None,
        'Several models: `["openai:…", "anthropic:…"]`. Each gives its samples. None: `model` alone.',
        accepts="Sequence[str] | None",
        expects=("a list of models", _is_models),
        takes=_ROWS,
    )
    decide: Any = option(
        None,
        'How one of several answers is chosen: `"vote"` (each field\'s majority), `"judge"` (a model decides where '
        'they differ), `"escalate"` (a stronger model answers where they differ), `Vote(…)`, or a function from the '
        'answers to one answer. None: `"judge"` if `judge` is given, else `"vote"`.',
        accepts='Literal["vote", "judge", "escalate"] | Voting | Callable[..., Any] | None',
        choices=_DECIDE,
        # What is no text, a function or `Vote`, is checked where it is used.
        expects=(one_of(_DECIDE), lambda value: not isinstance(value, str) or value in _DECIDE),
        takes=_ROWS,
    )
    judge: str | None = option(
        None, "The judge, or the stronger model. None: the model that answers.", takes=_ROWS | {"decide"}
    )
    agreement_column: str | None = option(
        None,
        "Name of a column for the share of samples that agree, 0 to 1. None: no such column.",
        takes=_ROWS,
    )
    max_retries: int = option(
        5,
        "Retries of a failed request. Waiting for a rate limit does not count.",
        at_least=0,
        takes=_CALLS,
    )
    max_repairs: int = option(
        1,
        "Turns in which the model is shown the validation errors of its answer. Each is a paid call.",
        at_least=0,
        takes=_CALLS,
    )
    max_cost_usd: float | None = option(
        None,
        "Ceiling for one run, in US dollars. No call is sent that could exceed it; the remaining rows are "
        "[`not_sent`](cost.md). None: no ceiling.",
        at_least=0,
        takes=_LISTS | {"request"},
    )
    concurrency: int | None = option(
        None,
        "Maximum number of requests in flight, [for the whole run](limits.md#limits-of-your-own). None: as many as "
        "the provider allows, which is [inferred](limits.md).",
        at_least=1,
        takes=_LISTS,
    )
    requests_per_min: float | None = option(
        None,
        "A limit of your own on requests per minute, for the whole run. None: only the provider's.",
        at_least=ABOVE_ZERO,
        takes=_FRAMES,
    )
    tokens_per_min: float | None = option(
        None,
        "A limit of your own on tokens per minute, input and output together, for the whole run. None: only the "
        "provider's.",
        at_least=ABOVE_ZERO,
        takes=_FRAMES,
    )
    allow_empty: bool = option(
        False,
        'Accept a reply without text as the answer `""`.',
        more="Otherwise such a row fails with kind `empty`, and the next run sends it again.",
        takes=_CALLS,
    )
    hedge: bool = option(
        False,
        "Near the end of a run, when nothing else waits to be sent, send a call a second time if it takes longer than "
        "99 % of the run's replies. The first answer counts; both may be paid for, never beyond `max_cost_usd`.",
        takes=_LISTS,
    )
    timeout_s: float = option(120.0, "Time limit of one request, in seconds.", at_least=ABOVE_ZERO, takes=_CALLS)
    validator_timeout_s: float = option(
        60.0,
        "Time limit, in seconds, of the type's own validators (or a `decide` function) for replies that are read "
        "together, and again for each reply alone.",
        more="A row whose validator takes longer fails alone, as [`schema`](errors.md); its answer is kept.",
        at_least=ABOVE_ZERO,
        takes=_FRAMES,
    )
    tool_timeout_s: float = option(
        300.0,
        "With `run_tools`, time limit of one tool call, in seconds.",
        more="After it the model sees that the tool did not return, and its thread is abandoned.",
        at_least=ABOVE_ZERO,
        takes=_ROWS | {"decide"},
    )
    temperature: float | None = option(
        None,
        "Sampling temperature. None: not sent.",
        more="Models that reject it are called without it, and the log says so.",
        at_least=0,
        takes=_FRAMES | {"ask_llm"},
        keyed=True,
    )
    effort: Effort | None = option(
        None,
        'How much the model [reasons](effort.md) before it answers: `"none"`, `"minimal"`, `"low"`, `"medium"`, '
        '`"high"` or `"max"`, in the provider\'s own words. None: the provider\'s default for the model.',
        more="A model that does not take the value is an error that names what it takes.",
        choices=get_args(Effort),
        takes=_LISTS | {"ask_llm"},
        keyed=True,
    )
    service_tier: ServiceTier | None = option(
        None,
        'The provider\'s [service tier](effort.md#service-tier): `"flex"` is cheaper and slower, `"priority"` faster '
        "and dearer. None: not sent.",
        more="It changes the price and not the question, so it is not part of the cache key.",
        choices=get_args(ServiceTier),
        takes=_LISTS,
    )
    top_p: float | None = option(
        None,
        "Nucleus sampling: the share of probability that tokens are drawn from. None: not sent.",
        more="A model known to reject it is an error.",
        at_least=0,
        takes=_LISTS,
        keyed=True,
    )
    seed: int | None = option(
        None,
        "Seed of the provider's sampling, where it takes one. None: not sent.",
        takes=_LISTS,
        keyed=True,
    )
    stop: tuple[str, ...] | None = option(
        None,
        "Texts at which the answer ends. None: not sent.",
        accepts="str | Sequence[str] | None",
        expects=("a text, or a list of texts", _is_stop),
        takes=_LISTS,
        keyed=True,
    )
    max_output_tokens: int | None = option(
        None,
        "Maximum length of an answer, in tokens. None: sent only if the provider requires a limit.",
        more="An answer that is cut off there is a failure, [`truncated`](errors.md), and its text is in `errors`.",
        at_least=1,
        takes=_FRAMES | {"ask_llm"},
    )
    extra_body: Mapping[str, Any] = option(
        {},
        "Provider-specific fields, added to the request as they are.",
        expects=("a mapping of fields for the provider", lambda value: isinstance(value, Mapping)),
        takes=_CALLS,
        keyed=True,
    )
    images: tuple[str, ...] | None = option(
        None,
        "Columns whose cells are [images or PDF documents](tools.md#images-and-documents) for the model. None: no "
        "images.",
        accepts="str | Sequence[str] | None",
        expects=("the name of a column, or a list of names", lambda value: isinstance(value, str) or _is_names(value)),
        takes=_ALL_BUT_DECIDE,
        keyed=True,
    )
    images_from: tuple[str, ...] | None = option(
        None,
        "Directories (each with everything below it) that paths in `images` columns may lead to, after symlinks are "
        'followed. None: the working directory. `"anywhere"` allows any file.',
        accepts="str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None",
        expects=("a directory, or a list of them", _is_paths),
        takes=_FRAMES,
    )
    tools: tuple[Any, ...] | None = option(
        None,
        "What the model [may call](tools.md): functions, Pydantic models, `StructuredTool`s, or definitions as "
        "mappings. None: no tools.",
        accepts="Sequence[Any] | None",
        expects=("a list of functions, models or definitions", lambda value: isinstance(value, (list, tuple))),
        variable=False,
        takes=_ROWS,
        keyed=True,
    )
    tool_choice: str = option(
        "auto",
        '`"auto"` lets the model choose; `"required"` makes it call a tool, `"none"` prevents it; or the name of one '
        "tool.",
        takes=_CALLS,
        keyed=True,
    )
    parallel_tool_calls: bool | None = option(
        None,
        "Whether the model may call several tools at once. None: the provider's default.",
        takes=_CALLS,
        keyed=True,
    )
    run_tools: bool = option(
        False,
        "Run the functions that the model calls and send their results back, until it answers.",
        takes=_CALLS - {"call_tools"},
    )
    max_turns: int = option(
        8,
        "With `run_tools`, maximum number of replies for one answer, the answer included.",
        at_least=1,
        takes=_CALLS - {"call_tools"},
    )
    progress: bool | str = option(
        True,
        'What is shown while it runs: `"view"`, which in a notebook includes a sample of rows and answers; `"bar"`, '
        "which shows counts and no text of rows; or nothing.",
        more="`True` is the view. In a terminal or a script, both are a bar.",
        accepts='bool | Literal["view", "bar"]',
        choices=_VIEWS,
        expects=('True, False, "view" or "bar"', lambda value: isinstance(value, bool) or value in _VIEWS),
        takes=_LISTS,
    )
    save_rows: bool = option(
        False,
        "Whether the page that a run leaves in the notebook has its last sample rows, which everybody who gets the "
        "file can read.",
        takes=_LISTS,
    )
