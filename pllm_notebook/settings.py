"""What a person can set once for all calls, and how one call's options are made from it.

An option is taken from the call, else from `configure`, else from the environment
(`PLLM_MODEL`, `PLLM_MAX_COST_USD`, …), else from the defaults below.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pllm_notebook.credentials import Address
from pllm_notebook.exceptions import UnknownOptionError, UsageError

__all__ = ["Options", "Settings", "check_with", "configure", "current", "reset", "resolve"]

Mode = Literal["async", "sync", "batch"]
CacheUse = Literal["use", "refresh", "only", "off"]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one run; every front end takes the same words.

    `None` means that nothing was said: no ceiling, no limit of ours, the provider's own default.

    Attributes:
        model: `provider:name`, None for the cheap current model of the first provider with a key.
        system: Instruction put before the prompt.
        mode: "async" runs calls at once, "sync" one at a time in order, raising at the first failure, "batch" as
            the provider's batch jobs, at about half the price and within a day.
        confirm: Whether to ask before a batch is submitted.
        wait: Whether to wait for a batch's answers; False leaves rows pending until the cell is run again. None: a
            batch waits for its jobs, and a live run leaves rows pending that wait in one.
        cache: "use" reads and writes; "refresh" asks again and replaces; "only" never sends;
            "off" neither reads nor writes.
        salt: Any word; another salt is another draw.
        errors: "coerce" keeps a failure as a value, "raise" ends the run at the first (pandas' words).
        prefix: Put before the name of every result column.
        replace: Whether result columns take the place of columns of the same names, whatever those hold. Without, only
            columns that hold, unchanged, the answers of an earlier run are replaced.
        error_column: Name of a column for failure messages.
        na: A row whose prompt would hold a missing value: "skip" it, "send" it as empty, or "raise".
        columns: Columns that go in as data where there is no template, None for all.
        column: Name of the result column where the type has no fields.
        explode: True gives one line per item of a list result; the name of a field, one per item of that list, the
            other fields repeated.
        nested: How nested values stand in a column: "data" as dicts and lists, "model" as the objects that the type
            makes, "json" as JSON text.
        flatten: Whether the fields of a nested model are columns of their own, `address.city`.
        pack: Rows that share one call; None or 1 gives each row a call of its own.
        samples: Answers to each row from each model; the first is the plain call.
        models: Several models in place of one; each gives its samples.
        decide: How one of several answers is chosen: "vote" takes each field's majority, "judge" asks a model where
            they differ, "escalate" asks a stronger one; or `Vote(…)`, or a function from the answers to one.
            None: "judge" where a judge is named, else "vote".
        judge: Model that decides, or the stronger one; None for the model that answers.
        agreement_column: Name of a column for the share of samples that agree.
        max_retries: Times a failed request is sent again.
        max_repairs: Turns in which the model is shown its validation errors.
        allow_empty: Whether a reply without text is an answer; otherwise it is a failure that can be retried.
        max_cost_usd: Ceiling for this run, in US dollars.
        concurrency: Most requests in flight, of the whole run and of the runs that share its account.
        requests_per_min: The caller's own limit, likewise.
        tokens_per_min: Likewise.
        hedge: Whether a call that takes longer than 99 of 100 of the run's replies is sent a second time once
            nothing else waits to be sent. The first answer counts; both may be paid.
        timeout_s: Seconds that one request may take, from first byte sent to last received.
        validator_timeout_s: Seconds that the type's own validators may take for the replies that are read together,
            and again for each of them by itself. A row whose validator takes longer fails, alone.
        tool_timeout_s: With `run_tools`, seconds that one call of a tool may take; the model is told of it.
        temperature: Sent only where said.
        max_output_tokens: Sent only where said, or where a provider demands it.
        extra_body: Fields for the provider, put into the body as they are.
        images: Columns whose cells are images or PDF documents that the model is shown.
        images_from: Directories in which, and below which, the files are that cells of `images` name, links followed;
            None for the working directory. "anywhere" takes a file from wherever it is.
        tools: What the model may call: functions, Pydantic models, `StructuredTool`s, or definitions as mappings.
        tool_choice: "auto" lets the model choose, "required" has it call one, "none" none; or the name of a tool.
        parallel_tool_calls: Whether several may be called at once, None for the provider's own way.
        run_tools: Whether the functions are run and the model is asked on with what they gave, until it answers.
        max_turns: With `run_tools`, replies that one answer may take at most, the answer itself included.
        progress: Whether to show progress.
    """

    model: str | None = None
    system: str | None = None
    mode: Mode = "async"
    confirm: bool = True
    wait: bool | None = None
    cache: CacheUse = "use"
    salt: str = ""
    errors: Literal["coerce", "raise"] = "coerce"
    prefix: str = ""
    replace: bool = False
    error_column: str | None = None
    na: Literal["skip", "send", "raise"] = "skip"
    columns: tuple[str, ...] | None = None
    column: str = "answer"
    explode: bool | str = False
    nested: Literal["data", "model", "json"] = "data"
    flatten: bool = False
    pack: int | None = None
    samples: int = 1
    models: tuple[str, ...] | None = None
    decide: Any = None
    judge: str | None = None
    agreement_column: str | None = None
    max_retries: int = 5
    max_repairs: int = 1
    allow_empty: bool = False
    max_cost_usd: float | None = None
    concurrency: int | None = None
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    hedge: bool = False
    timeout_s: float = 120.0
    validator_timeout_s: float = 60.0
    tool_timeout_s: float = 300.0
    temperature: float | None = None
    max_output_tokens: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[str, ...] | None = None
    images_from: tuple[str, ...] | None = None
    tools: tuple[Any, ...] | None = None
    tool_choice: str = "auto"
    parallel_tool_calls: bool | None = None
    run_tools: bool = False
    max_turns: int = 8
    progress: bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """What `configure` holds besides the defaults of options.

    Attributes:
        cache_dir: Directory of the store, None for the platform's own.
        servers: OpenAI-compatible servers, name to address.
        clients: SDK clients of the caller's own (Azure, Bedrock, Vertex), name to client.
        sim: Options of the `sim:` server (see `sim.Simulator`).
        loop: "private" for a thread of our own, "notebook" for the notebook's own loop.
        poll: Whether a kernel looks after the open batch jobs of earlier ones, unasked.
        options: Defaults of options, name to value.
    """

    cache_dir: str | None = None
    servers: Mapping[str, str] = field(default_factory=dict)
    clients: Mapping[str, Any] = field(default_factory=dict)
    sim: Mapping[str, Any] = field(default_factory=dict)
    loop: Literal["private", "notebook"] = "private"
    poll: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


_OPTIONS = {f.name for f in fields(Options)}
_SETTINGS = {f.name for f in fields(Settings)} - {"options"}
# No text of an environment variable is a function.
_NO_TEXT = {"tools"}

_current = Settings()


_SHAPES = {
    "servers": "{'vllm': 'http://localhost:8000/v1'}",
    "clients": "{'azure': AsyncAzureOpenAI(…)}",
    "sim": "{'latency_s': 0.5}",
}
_checks: dict[str, Callable[[Any], None]] = {}


def check_with(name: str, check: Callable[[Any], None]) -> None:
    """Check a setting's values before they are in force.

    Args:
        name: Of the setting.
        check: Raises `UsageError` for a value that could not be used.
    """
    _checks[name] = check


def current() -> Settings:
    """Return the settings in force."""
    return _current


def reset() -> None:
    """Forget everything that `configure` was told. Running work is not touched."""
    global _current
    _current = Settings()


def configure(**values: Any) -> None:
    """Set defaults for every later call, and where things are.

    Args:
        **values: Any option of `df.llm.parse`, and `cache_dir`, `servers`, `clients`, `sim`, `loop`, `poll`.
            `None` forgets what was set. Mappings replace what was there.

    Raises:
        UnknownOptionError: For a name that no one reads; nothing is changed then.
        UsageError: For a value outside its range; nothing is changed then.
    """
    global _current
    for name in ("servers", "clients", "sim"):
        if values.get(name) is not None and not isinstance(values[name], Mapping):
            kind = type(values[name]).__name__  # not the value, which may hold a key
            raise UsageError(f"{name} is a mapping, such as {_SHAPES[name]}, not {kind}.")
    if values.get("servers") is not None:
        # An address may hold a password. First of all, so that no traceback with its variables shows it.
        values["servers"] = dict(zip(values["servers"], map(Address, values["servers"].values()), strict=True))
    settings, options = {}, dict(_current.options)
    for name, value in values.items():
        if name in _SETTINGS:
            settings[name] = _default(Settings, name) if value is None and name != "cache_dir" else value
        elif name in _OPTIONS:
            _check(name, value)
            if value is None:
                options.pop(name, None)
            else:
                options[name] = value
        else:
            raise UnknownOptionError(name, _OPTIONS | _SETTINGS)
    if settings.get("loop", "private") not in ("private", "notebook"):
        raise UsageError(f"loop is 'private' or 'notebook', not {settings['loop']!r}.")
    if not isinstance(settings.get("poll", True), bool):
        raise UsageError(f"poll is True or False, not {settings['poll']!r}.")
    for name, check in _checks.items():
        if name in settings:
            check(settings[name])
    if "cache_dir" in settings and settings["cache_dir"] is not None:
        settings["cache_dir"] = os.fspath(settings["cache_dir"])
    _current = replace(_current, **settings, options=options)


def resolve(given: Mapping[str, Any]) -> Options:
    """Make one run's options from what the call gave and what stands behind it.

    Raises:
        UnknownOptionError: For a name that no one reads.
        UsageError: For a value outside its range.
    """
    for name, value in given.items():
        if name not in _OPTIONS:
            raise UnknownOptionError(name, _OPTIONS)
        _check(name, value)
    values = {**_from_environment(), **_current.options, **given}
    for name, value in list(values.items()):
        if value is None:
            values[name] = _default(Options, name)
    if isinstance(values.get("images"), str):
        values["images"] = (values["images"],)
    if values.get("images_from") is not None:
        places: Any = values["images_from"]
        values["images_from"] = tuple(map(os.fspath, places if isinstance(places, (list, tuple)) else [places]))
    for name in _LISTS:
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    options = Options(**values)
    if options.mode == "batch" and options.cache in ("off", "only"):
        raise UsageError(
            f"mode='batch' brings its answers through the cache, so it cannot go with cache={options.cache!r}. "
            f"Nothing was sent."
        )
    return options


def _default(kind: type, name: str) -> Any:
    return getattr(kind(), name)


def _from_environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    hints = get_type_hints(Options)
    for name in _OPTIONS - _NO_TEXT:
        text = os.environ.get(f"PLLM_{name.upper()}")
        if text:
            found[name] = _from_text(name, text, hints[name])
            _check(name, found[name], source=f"The environment variable PLLM_{name.upper()}: ")
    return found


def _from_text(name: str, text: str, hint: Any) -> Any:
    kinds = set(get_args(hint)) if get_origin(hint) is not Literal else {str}
    kinds = kinds or {hint}
    try:
        if bool in kinds and (str not in kinds or text.strip().lower() in _TRUTHS):
            return text.strip().lower() in ("1", "true", "yes", "on")
        if float in kinds:
            return float(text)
        if int in kinds:
            return int(text)
    except ValueError:
        raise UsageError(f"PLLM_{name.upper()} is {text!r}, which is not a number. Nothing was sent.") from None
    return tuple(text.split(",")) if name in _LISTS else text


_TRUTHS = ("1", "true", "yes", "on", "0", "false", "no", "off")
_CHOICES: dict[str, tuple[Any, ...]] = {
    "mode": ("async", "sync", "batch"),
    "cache": ("use", "refresh", "only", "off"),
    "errors": ("coerce", "raise"),
    "na": ("skip", "send", "raise"),
    "decide": ("vote", "judge", "escalate"),
    "nested": ("data", "model", "json"),
}
_AT_LEAST: dict[str, float] = {
    "max_retries": 0,
    "max_repairs": 0,
    "max_cost_usd": 0,
    "concurrency": 1,
    "pack": 1,
    "samples": 1,
    "requests_per_min": 0,
    "tokens_per_min": 0,
    "timeout_s": 0,
    "validator_timeout_s": 0,
    "tool_timeout_s": 0,
    "temperature": 0,
    "max_output_tokens": 1,
    "max_turns": 1,
}
_WHOLE = {"max_retries", "max_repairs", "concurrency", "max_output_tokens", "pack", "samples", "max_turns"}
_TEXTS = {"model", "system", "salt", "prefix", "error_column", "column", "judge", "agreement_column", "tool_choice"}
_YES_OR_NO = {"flatten", "hedge", "replace", "allow_empty", "confirm", "wait", "run_tools", "parallel_tool_calls"}
_LISTS = ("columns", "models", "images", "images_from", "tools")
_ABOVE_ZERO = {"requests_per_min", "tokens_per_min", "timeout_s", "validator_timeout_s", "tool_timeout_s"}


def _check(name: str, value: Any, source: str = "") -> None:
    if value is None:
        return
    if name == "decide" and not isinstance(value, str):
        return  # a function, or `Vote`; whoever decides looks at it
    if name in _CHOICES and value not in _CHOICES[name]:
        raise UsageError(
            f"{source}{name} is one of {', '.join(map(repr, _CHOICES[name]))}, not {value!r}. Nothing was sent."
        )
    if name in _AT_LEAST:
        number = isinstance(value, int if name in _WHOLE else (int, float)) and not isinstance(value, bool)
        if not number or value != value or value < _AT_LEAST[name] or (name in _ABOVE_ZERO and value == 0):
            kind = "a whole number" if name in _WHOLE else "a number"
            least = "above 0" if name in _ABOVE_ZERO else f"of at least {_AT_LEAST[name]:g}"
            raise UsageError(f"{source}{name} is {kind} {least}, not {value!r}. Nothing was sent.")
    if name in _TEXTS and not isinstance(value, str):
        raise UsageError(f"{source}{name} is text, not {value!r}. Nothing was sent.")
    if name == "explode" and not isinstance(value, (bool, str)):
        raise UsageError(f"{source}explode is True, False or the name of a field, not {value!r}. Nothing was sent.")
    if name in _YES_OR_NO and not isinstance(value, bool):
        raise UsageError(f"{source}{name} is True or False, not {value!r}. Nothing was sent.")
    if name == "models" and (isinstance(value, str) or not value or not all(isinstance(item, str) for item in value)):
        raise UsageError(f"models is a list of models, not {value!r}. Nothing was sent.")
    if name == "columns" and (isinstance(value, str) or not all(isinstance(item, str) for item in value)):
        raise UsageError(f"columns is a list of column names, not {value!r}. Nothing was sent.")
    if name == "images" and not (isinstance(value, str) or _are_texts(value)):
        raise UsageError(f"images is the name of a column, or a list of names, not {value!r}. Nothing was sent.")
    if name == "images_from" and not _are_paths(value):
        raise UsageError(f"images_from is a directory, or a list of them, not {value!r}. Nothing was sent.")
    if name == "tools" and not isinstance(value, (list, tuple)):
        raise UsageError(f"tools is a list of functions, models or definitions, not {value!r}. Nothing was sent.")
    if name == "extra_body" and not isinstance(value, Mapping):
        raise UsageError(f"extra_body is a mapping of fields for the provider, not {value!r}. Nothing was sent.")


def _are_paths(value: Any) -> bool:
    paths = value if isinstance(value, (list, tuple)) else [value]
    return bool(paths) and all(isinstance(one, (str, os.PathLike)) and os.fspath(one) for one in paths)


def _are_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
