"""The settings for all calls, and the resolution of one call's options.

An option is taken from the call, or otherwise from `configure`, from the environment
(`PLLM_MODEL`, `PLLM_MAX_COST_USD`, …), or from its default in `Options`, in this order.
"""

from __future__ import annotations

import difflib
import inspect
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Unpack

from pllm_notebook.callers import caller_stack_level
from pllm_notebook.credentials import Address
from pllm_notebook.events import Event
from pllm_notebook.exceptions import UsageError
from pllm_notebook.local_files import ANYWHERE
from pllm_notebook.options import CHECKS, ConfigureOptions, Options, check, fields_of, from_environment, option
from pllm_notebook.runtime import RUNTIME, ExitStage, Slot, is_first_time
from pllm_notebook.signatures import shows

__all__ = [
    "Options",
    "Settings",
    "configure",
    "current",
    "refuse_without_tools",
    "reset",
    "resolve",
    "restore",
]


def _is_listening(value: Any) -> bool:
    # A coroutine function would be called and never awaited, and a class made: every event would be lost.
    return all(
        callable(each) and not inspect.iscoroutinefunction(each) and not inspect.isclass(each)
        for each in (value if isinstance(value, (list, tuple)) else [value])
    )


def _is_path(value: Any) -> bool:
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    return isinstance(path, str) and path.strip() != "" and "\0" not in path


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `configure` besides the defaults of options."""

    cache_dir: str | None = option(
        None,
        "Directory of the [cache](cache.md). None: `PLLM_CACHE_DIR`, else the platform's cache directory.",
        accepts="str | os.PathLike[str] | None",
        expects=("a path", _is_path),
    )
    cache_share: str | None = option(
        None,
        "Directory through which several machines share answers, such as `s3://team/pllm` or `/mnt/team/pllm`. "
        "None: `PLLM_CACHE_SHARE`, otherwise answers are not shared.",
        more="New answers are written there within seconds, and those of others are read when a run starts; see "
        "[sharing](cache.md#sharing-answers).",
        accepts="str | os.PathLike[str] | None",
        expects=("a path or an address", _is_path),
    )
    servers: Mapping[str, str] = option(
        {},
        'OpenAI-compatible servers, name to address: `{"vllm": "http://localhost:8000/v1"}`.',
        more="The key of a server `vllm` is read from `VLLM_API_KEY`, if it requires one.",
    )
    clients: Mapping[str, Any] = option(
        {}, 'Your own SDK clients (Azure, Bedrock, Vertex), name to client: `{"azure": AsyncAzureOpenAI(…)}`.'
    )
    decision_formats: Mapping[str, str] = option(
        {},
        "The format of your servers' [decision endpoints](decisions.md#servers-of-your-own), name to one of "
        '`"openai"`, `"google"`, `"systemone"`, `"sglang"`.',
    )
    sim: Mapping[str, Any] = option(
        {},
        "Options of the [simulator](models.md#the-simulator): latency, limits, faults, and `answers`, a function of "
        "your own.",
    )
    loop: Literal["private", "notebook"] = option(
        "private",
        '`"private"` does network work in a separate thread; `"notebook"` on the notebook\'s event loop. Set it before '
        "the first run.",
    )
    poll: bool = option(True, "Poll open [batch jobs](batch.md) of earlier kernels in the background.")
    on_event: Callable[[Event], object] | Sequence[Callable[[Event], object]] | None = option(
        None,
        "A function, or several, called with each [event](telemetry.md): a run's start, each call's end, the run's "
        "end. None: nothing is called.",
        accepts="Callable[[Event], object] | Sequence[Callable[[Event], object]] | None",
        expects=("a function, or a list of functions, none of them async or a class", _is_listening),
        variable=False,
    )
    options: Mapping[str, Any] = field(default_factory=dict)


_CURRENT: Slot[Settings] = Slot("settings", Settings)

# Closer than the names of any two options.
_NEAR = 0.9

_SHAPES = {
    "servers": "{'vllm': 'http://localhost:8000/v1'}",
    "clients": "{'azure': AsyncAzureOpenAI(…)}",
    "decision_formats": "{'jev': 'systemone'}",
    "sim": "{'latency_s': 0.5}",
}


_OPTIONS, _SETTINGS = fields_of(Options), fields_of(Settings)


def current() -> Settings:
    """Return the current settings."""
    return _CURRENT.value


def reset() -> None:
    """Discard everything set with `configure`. Running work is not affected."""
    _CURRENT.value = Settings()


def restore(settings: Settings) -> None:
    """Restore settings returned by `current`."""
    _CURRENT.value = settings


@shows(_OPTIONS, _SETTINGS, unset=True)
def configure(**values: Unpack[ConfigureOptions]) -> None:
    """Set defaults for all later calls, and the package's settings.

    `None` removes a value. Mappings replace the previous ones.

    Args:
        **values: Options of `df.llm.parse`, and settings.

    Raises:
        UnknownOptionError: For an unknown option. Nothing is changed.
        UsageError: For a value out of range. Nothing is changed.
    """
    given: dict[str, Any] = values  # type: ignore[assignment]  # only iterated by name
    for name in _SHAPES:
        if given.get(name) is not None and not isinstance(given[name], Mapping):
            kind = type(given[name]).__name__  # not the value, which may contain a key
            raise UsageError(f"{name} is a mapping, such as {_SHAPES[name]}, not {kind}.")
    for name in ("servers", "clients"):
        for each in given.get(name) or ():
            if not isinstance(each, str) or not each.strip() or ":" in each or each != each.strip():
                raise UsageError(
                    f"{name} is a mapping from names, such as {_SHAPES[name]}, and {each!r} cannot be one: a model is "
                    f"written 'NAME:model'."
                )
    if given.get("servers") is not None:
        # No local variable may hold an address, not even one of a comprehension: it may contain a password.
        for server, given_type in zip(given["servers"], map(type, given["servers"].values()), strict=True):
            if not issubclass(given_type, str):
                kind = given_type.__name__
                raise UsageError(f"The address of server {server!r} is text, such as 'http://…/v1', not {kind}.")
        # Converted before anything can raise, so that no traceback with local variables shows a password in an address.
        given["servers"] = dict(zip(given["servers"], map(Address, given["servers"].values()), strict=True))
    check({**_OPTIONS, **_SETTINGS}, given)
    before = _CURRENT.value
    settings, options = {}, dict(before.options)
    for name, value in given.items():
        if name not in _OPTIONS:
            settings[name] = _SETTINGS[name].default if value is None else value
        elif value is None:
            options.pop(name, None)
        else:
            options[name] = value
    for name, usable in CHECKS.value.items():
        if name in settings:
            usable(settings[name])
    for name in ("cache_dir", "cache_share"):
        if settings.get(name) is not None:
            settings[name] = os.fspath(settings[name])
    _CURRENT.value = replace(before, **settings, options=options)
    if settings.get("cache_dir", before.cache_dir) != before.cache_dir:
        # Finish writing to the former directory, so that it can be deleted.
        RUNTIME.close(ExitStage.RECORDS, ExitStage.WRITERS)


def resolve(given: Mapping[str, Any], kind: type[Options] = Options) -> Options:
    """Resolve one run's options from the call's options and the settings.

    None in a call sets an option to its default, overriding the configuration.

    Args:
        given: The call's options, by name.
        kind: The options class.

    Raises:
        UnknownOptionError: For an unknown option. Nothing was sent.
        UsageError: For a value outside its range. Nothing was sent.
    """
    known = _OPTIONS if kind is Options else fields_of(kind)
    configured = current().options
    _warn_of_environment()
    check(known, given)
    values = {**from_environment(known.values()), **configured, **given}
    for name, value in list(values.items()):
        if value is None:
            values[name] = known[name].default
    for name in ("columns", "models"):
        if values.get(name) is not None:  # an Index or an array, whose truth value is not that of a list
            values[name] = tuple(values[name])
    for name in ("images", "stop"):
        if isinstance(values.get(name), str):
            values[name] = (values[name],)
    if values.get("shard") is not None:
        values["shard"] = tuple(map(int, values["shard"]))
    if values.get("images_from") is not None:
        places: Any = values["images_from"]
        values["images_from"] = tuple(map(os.fspath, places if isinstance(places, (list, tuple)) else [places]))
        _require_directories(values["images_from"])
    for name, value in values.items():
        if isinstance(value, list) and known[name].is_list:
            values[name] = tuple(value)
    options = kind(**values)
    if options.mode == "batch" and options.cache in ("off", "only"):
        raise UsageError(
            f"mode='batch' brings its answers through the cache, so it cannot go with cache={options.cache!r}. "
            f"Nothing was sent."
        )
    if options.shard is not None and (options.samples > 1 or options.models):
        raise UsageError(
            "shard= is for rows that are one call each, so it cannot go with samples= or models=. Nothing was sent."
        )
    return options


# Options for calling tools.
_OF_TOOLS = ("run_tools", "tool_choice", "parallel_tool_calls", "tool_timeout_s")


def refuse_without_tools(given: Mapping[str, Any]) -> None:
    """Refuse options for tools in a call that offers no tools.

    Not called for a list whose prompts have their own tools.

    Raises:
        UsageError: For such an option with a value other than its default. Nothing was sent.
    """
    asked = {name: given[name] for name in ("tools", *_OF_TOOLS) if name in given}
    if not asked:
        return
    check(_OPTIONS, asked)
    if given.get("tools") or current().options.get("tools"):
        return
    for name in _OF_TOOLS:
        if given.get(name) is not None and given[name] != _OPTIONS[name].default:
            raise UsageError(
                f"{name}={given[name]!r} is for calls that offer tools, and this one offers none: give tools=[…], or "
                f"leave {name} out. Nothing was sent."
            )


def _require_directories(places: tuple[str, ...]) -> None:
    for place in places:
        if place != ANYWHERE and not os.path.isdir(os.path.expanduser(place)):
            raise UsageError(
                f"images_from names {place!r}, which is not a directory. Name one that is, or 'anywhere'. "
                f"Nothing was sent."
            )


def _warn_of_environment() -> None:
    """Warn once about each environment variable that is not read and whose name resembles that of an option."""
    names = [name for name in os.environ if name.startswith("PLLM_")]
    if not names:
        return
    read = {f"PLLM_{name.upper()}" for name in (*_OPTIONS, *_SETTINGS)}
    for name in names:
        near = [] if name in read else difflib.get_close_matches(name, read, 1, cutoff=_NEAR)
        if near and is_first_time("unread environment variable", name):
            warnings.warn(
                f"The environment variable {name} is not read. Did you mean {near[0]}?",
                stacklevel=caller_stack_level(),
            )
