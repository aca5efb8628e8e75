"""Differences between two questions: words of the prompts, schemas and options."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pllm_notebook.execution import LiveRun
from pllm_notebook.formatting import counted, escape_html
from pllm_notebook.frames.provenance import Source
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.options import given_options

__all__ = ["WordChange", "html_diff", "option_diff", "schema_diff", "text_diff", "word_diff"]

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_LINES = re.compile(r".*\n|.+\Z")
_MOST_WORDS = 20_000
"""Longer prompts are compared line by line, because a comparison by words would take minutes."""

_MOST_PAIRS = 2_000_000
"""Limit on pairs of equal words, whose number is quadratic for a prompt that repeats one word."""

# Options that affect only the source and speed of answers do not make a different question.
_NO_QUESTION = {"progress", "concurrency", "requests_per_min", "tokens_per_min", "timeout_s", "max_retries", "columns",
                "max_cost_usd", "cache", "wait", "mode", "cache_dir", "prefix", "replace", "loop", "sim"}  # fmt: skip


class WordChange(NamedTuple):
    """A piece of a prompt, before and after. Both are equal for an unchanged piece."""

    old: str
    new: str


def word_diff(old: str, new: str) -> list[WordChange]:
    """Return the pieces of two texts in order, by words. Very long texts are compared by lines or as a whole."""
    for split in (_WORDS, _LINES):
        if split is _WORDS and max(len(old), len(new)) > 6 * _MOST_WORDS:
            continue
        before, after = split.findall(old), split.findall(new)
        times, others = Counter(before), Counter(after)
        if sum(count * others[piece] for piece, count in times.items()) <= _MOST_PAIRS:
            break
    else:
        before, after = [old], [new]
    matched = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [WordChange("".join(before[a:b]), "".join(after[c:d])) for _, a, b, c, d in matched]


def text_diff(changes: list[WordChange]) -> str:
    """Return pieces as text: `[-gone-]` and `{+new+}`."""
    return "".join(
        one.old
        if one.old == one.new
        else (f"[-{one.old}-]" if one.old else "") + (f"{{+{one.new}+}}" if one.new else "")
        for one in changes
    )


def html_diff(changes: list[WordChange]) -> str:
    """Return pieces as HTML, escaped, with `<del>` and `<ins>`."""
    made = []
    for one in changes:
        if one.old == one.new:
            made.append(escape_html(one.old))
            continue
        made += [f"<del>{escape_html(one.old)}</del>"] if one.old else []
        made += [f"<ins>{escape_html(one.new)}</ins>"] if one.new else []
    return "".join(made)


def schema_diff(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Return (path, old, new) for each part that differs between two JSON schemas, with "" for a missing part."""
    before, after = dict(_leaves(old or {})), dict(_leaves(new or {}))
    return [
        (path, before.get(path, ""), after.get(path, ""))
        for path in dict.fromkeys([*before, *after])
        if before.get(path) != after.get(path)
    ]


def _leaves(schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(schema, Mapping) and schema:
        for name, part in schema.items():
            yield from _leaves(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, json.dumps(schema, ensure_ascii=False, default=repr)


def option_diff(old: Source, new: Source) -> list[tuple[str, str, str]]:
    """Return (option, old, new) for each option that makes a different question, with "" for an option not given."""
    before, after = _options_of(old), _options_of(new)
    names = [name for name in dict.fromkeys([*before, *after]) if name not in _NO_QUESTION | {"system", "model"}]
    return [(name, before.get(name, ""), after.get(name, "")) for name in names if before.get(name) != after.get(name)]


def _options_of(source: Source) -> dict[str, str]:
    run = source.run
    if isinstance(run, RegisteredRun):
        given, examples = run.header["options"], run.header.get("examples")
    else:
        assert isinstance(run, LiveRun)
        rows: Any = run.rows
        given, examples = given_options(run.spec.options), rows.described(run).get("examples")
    written = {name: _written(value) for name, value in given.items() if name != "examples"}
    return (
        written
        if examples is None
        else written | {"examples": f"{counted(examples['of'], 'row')} ({examples['digest']})"}
    )


def _written(value: Any) -> str:
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__))
    return json.dumps(value, ensure_ascii=False, default=lambda one: getattr(one, "__name__", type(one).__name__))
