"""The manifest of a dataset: the question that its parts answer, so that answers to another are not mixed in."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, NamedTuple, get_origin

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import KEY_VERSION, options_for
from pllm_notebook.frames.example_pool import digest_of
from pllm_notebook.frames.response_format import output_of
from pllm_notebook.options import Options, fields_of

__all__ = ["Question", "check_same", "manifest_of", "recorded_options", "recorded_type"]

_FORMAT = 1
# Options that change only how a call is sent, its cost, or the display, but never a row's answer.
_TRANSPORT = frozenset({
    "cache", "concurrency", "confirm", "errors", "hedge", "images_from", "max_cost_usd", "max_retries", "mode",
    "prices",
    "progress", "requests_per_min", "save_rows", "service_tier", "shard", "timeout_s", "tokens_per_min",
    "tool_timeout_s",
    "validator_timeout_s", "wait",
})  # fmt: skip
# Options that a manifest stores only as a hash or as names.
_DIGESTED = ("decide", "examples", "extra_body", "tools")


class Question(NamedTuple):
    """The question about every row of a dataset.

    Attributes:
        response_format: As for `df.llm.parse`, with old argument names resolved.
        prompt: As for `df.llm.parse`.
        given: The options passed to the call.
        rows: Maximum rows of a part.
        status: Whether parts have the status columns.
    """

    response_format: Any
    prompt: str | None
    given: dict[str, Any]
    rows: int
    status: bool


def manifest_of(question: Question, source: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """Return the manifest of a dataset.

    Args:
        question: The question.
        source: The source's description.
        columns: The source's columns.
    """
    options = options_for({**question.given})
    output = output_of(question.response_format, options)
    schema = None if output is None else {"name": output.name, "doc": output.doc, "schema": output.json_schema}
    answers = {
        each.name: _plain(each.name, getattr(options, each.name))
        for each in fields(options)
        if each.name not in _TRANSPORT
    }
    return {
        "format": _FORMAT,
        "key_version": KEY_VERSION,
        "prompt": question.prompt,
        "schema": schema,
        "type": _type_name(question.response_format),
        "options": answers,
        "rows": question.rows,
        "status": question.status,
        "columns": list(columns),
        **source,
    }


def recorded_options(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a manifest that differ from the defaults, as far as a manifest stores them.

    Options for sending are not included: they are never written, and a foreign manifest must not decide which files
    are sent or how much a call may cost.
    """
    known = {name: one for name, one in fields_of(Options).items() if name not in _TRANSPORT.union(_DIGESTED)}
    return {
        name: value
        for name, value in manifest["options"].items()
        if name in known and _plain(name, known[name].default) != value
    }


def recorded_type(manifest: Mapping[str, Any]) -> Any:
    """Return the type of a manifest.

    Raises:
        UsageError: If it cannot be imported. Nothing was sent.
    """
    if manifest["schema"] is None:
        return None
    module, _, name = str(manifest.get("type") or "").partition(":")
    try:
        found = attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError):
        written = f"{module}:{name}" if name else manifest["schema"]["name"]
        raise UsageError(
            f"The type of the answers, {written}, cannot be imported here. Pass it as response_format=. Nothing was "
            f"sent."
        ) from None
    return found


def check_same(there: Mapping[str, Any], manifest: Mapping[str, Any], address: str) -> None:
    """Check that a directory's manifest is that of this call.

    Raises:
        UsageError: If it differs. The message names the differences. Nothing was sent.
    """
    differs = [
        _difference(name, there.get(name), manifest.get(name))
        for name in ("format", "key_version", "prompt", "schema", "rows", "status", "source")
    ]
    before, now = there.get("options", {}), manifest["options"]
    differs += [_difference(name, before.get(name), now.get(name)) for name in sorted({*before, *now})]
    differs.append(_files_differ(there.get("files", []), manifest.get("files", [])))
    found = [each for each in differs if each]
    if found:
        raise UsageError(
            f"{address} holds answers to another question: {'; '.join(found)}. Write to another directory, or ask as "
            f"before. Nothing was sent."
        )


def _difference(name: str, there: Any, here: Any) -> str:
    # Values are compared as JSON, in which tuples are lists.
    before, now = (json.dumps(value, sort_keys=True) for value in (there, here))
    if before == now:
        return ""
    if max(len(before), len(now)) > 80:
        return f"{name} differs"
    return f"{name} was {before} and is now {now}"


def _files_differ(there: Sequence[Sequence[Any]], here: Sequence[Sequence[Any]]) -> str:
    before, now = ({each[0]: list(each) for each in files} for files in (there, here))
    for path in sorted({*before, *now}):
        if path not in now:
            return f"the file {path} is no longer there"
        if path not in before:
            return f"the file {path} is new"
        if before[path] != now[path]:
            return f"the file {path} has changed"
    return ""


def _plain(name: str, value: Any) -> Any:
    """Return an option's manifest entry: the same in every process, and without secrets from a body."""
    if name == "extra_body" and value:
        return hashlib.sha256(json.dumps(value, sort_keys=True, default=_name_of).encode()).hexdigest()
    if name == "examples":
        return digest_of(value)
    return json.loads(json.dumps(value, sort_keys=True, default=_name_of))


def _type_name(kind: Any) -> str | None:
    """Return `module:name` of a type, or None if it has none."""
    name, module = getattr(kind, "__qualname__", None), getattr(kind, "__module__", None)
    # `list[int]` has the name of `list`.
    if not isinstance(kind, type) or get_origin(kind) is not None or name is None or "<" in name:
        return None
    return f"{module}:{name}"


def _name_of(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    named = getattr(value, "__qualname__", None) or getattr(value, "name", None)
    if isinstance(named, str):
        return named
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else text
