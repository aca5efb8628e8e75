"""The manifest of a dataset: what its parts are answers to, so that no other answers are put beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import KEY_VERSION
from pllm_notebook.options import Options
from pllm_notebook.schema import OutputType
from pllm_notebook.streams.parquet_source import SourceFile

__all__ = ["check_same", "known_counts", "manifest_of"]

_FORMAT = 1
# Options that change how a call is sent, what it costs, or what is shown, and never which answer a row has.
_TRANSPORT = frozenset({
    "cache", "concurrency", "confirm", "errors", "hedge", "images_from", "max_cost_usd", "max_retries", "mode",
    "progress", "requests_per_min", "save_rows", "service_tier", "timeout_s", "tokens_per_min", "tool_timeout_s",
    "validator_timeout_s", "wait",
})  # fmt: skip


def manifest_of(
    files: Sequence[SourceFile],
    counts: Sequence[int],
    question: tuple[OutputType | None, str | None, Options],
    *,
    rows: int,
    status: bool,
) -> dict[str, Any]:
    """Return the manifest of a dataset.

    Args:
        files: The files.
        counts: Number of rows of each.
        question: Type of the answer, prompt and options.
        rows: Rows of a part at most.
        status: Whether parts have the columns of the status.
    """
    output, prompt, options = question
    schema = None if output is None else {"name": output.name, "doc": output.doc, "schema": output.json_schema}
    answers = {
        each.name: _plain(each.name, getattr(options, each.name))
        for each in fields(options)
        if each.name not in _TRANSPORT
    }
    return {
        "format": _FORMAT,
        "key_version": KEY_VERSION,
        "prompt": prompt,
        "schema": schema,
        "options": answers,
        "rows": rows,
        "status": status,
        "pieces": hashlib.sha256(json.dumps([file.version for file in files]).encode()).hexdigest(),
        "files": [[*file.version, count] for file, count in zip(files, counts, strict=True)],
    }


def known_counts(manifest: Mapping[str, Any] | None, files: Sequence[SourceFile]) -> list[int] | None:
    """Return the number of rows of each file where a manifest of the same files has them, else None."""
    known = [] if manifest is None else manifest.get("files", [])
    if [each[:3] for each in known] != [file.version for file in files]:
        return None
    return [int(each[3]) for each in known]


def check_same(there: Mapping[str, Any], manifest: Mapping[str, Any], address: str) -> None:
    """Check that a directory's manifest is that of this call.

    Raises:
        UsageError: If it is not; it names what differs. Nothing was sent.
    """
    named = [name for name in ("format", "key_version", "prompt", "schema", "rows", "status") if name in manifest]
    differs = [_difference(name, there.get(name), manifest[name]) for name in named]
    before, now = there.get("options", {}), manifest["options"]
    differs += [_difference(name, before.get(name), now.get(name)) for name in sorted({*before, *now})]
    differs.append(_files_differ(there.get("files", []), manifest["files"]))
    found = [each for each in differs if each]
    if found:
        raise UsageError(
            f"{address} holds answers to another question: {'; '.join(found)}. Write to another directory, or ask as "
            f"before. Nothing was sent."
        )


def _difference(name: str, there: Any, here: Any) -> str:
    # As JSON they are equal where a tuple has become a list.
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
    """Return what a manifest has of an option: the same in each process, and no secret that a body may hold."""
    if name == "extra_body" and value:
        return hashlib.sha256(json.dumps(value, sort_keys=True, default=_name_of).encode()).hexdigest()
    return json.loads(json.dumps(value, sort_keys=True, default=_name_of))


def _name_of(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    named = getattr(value, "__qualname__", None) or getattr(value, "name", None)
    if isinstance(named, str):
        return named
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else text
