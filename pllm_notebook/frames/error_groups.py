"""The head of a frame of errors: its rows by kind, with full messages and the cost of retrying them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pllm_notebook.execution import retry_advice
from pllm_notebook.formatting import counted, escape_html, strip_control_chars

__all__ = ["error_head_html", "error_head_text"]

_NUMBER = re.compile(r"\d+")
_LEFT = "style='text-align:left;vertical-align:top'"


class _Group(NamedTuple):
    kind: str
    rows: int
    message: str
    others: int
    advice: str


def error_head_text(kinds: Sequence[str], messages: Sequence[str], price_usd: float | None) -> str:
    """Return the groups as text, "" without failures.

    Args:
        kinds: The kind of each failed row.
        messages: The message of each failed row.
        price_usd: Cost of retrying one row in US dollars, None if unknown.
    """
    lines = []
    for group in _groups(kinds, messages, price_usd):
        lines.append(f"{counted(group.rows, 'row')}: {group.kind}: {group.message}{_others(group)}")
        lines += [f"  {group.advice}"] if group.advice else []
    return strip_control_chars("\n".join(lines))


def error_head_html(kinds: Sequence[str], messages: Sequence[str], price_usd: float | None) -> str:
    """Return the groups as an HTML table, "" without failures (see `error_head_text`)."""
    lines = "".join(
        f"<tr><td {_LEFT}>{group.rows:,}</td><th {_LEFT}>{escape_html(group.kind)}</th>"
        f"<td style='text-align:left;white-space:pre-wrap'>{escape_html(group.message)}{_others(group)}"
        f"<div>{escape_html(group.advice)}</div></td></tr>"
        for group in _groups(kinds, messages, price_usd)
    )
    return f"<table><tbody>{lines}</tbody></table>" if lines else ""


def _groups(kinds: Sequence[str], messages: Sequence[str], price_usd: float | None) -> list[_Group]:
    said: dict[str, Counter[str]] = {}
    first: dict[str, str] = {}
    for kind, message in zip(kinds, messages, strict=True):
        # Messages that differ only in numbers, such as a position in the row's text, describe the same problem.
        alike = _NUMBER.sub("0", message)
        first.setdefault(alike, message)
        said.setdefault(kind, Counter())[alike] += 1
    found = []
    for kind, texts in said.items():
        (alike, times), count = texts.most_common(1)[0], texts.total()
        price = None if price_usd is None else price_usd * count
        found.append(_Group(kind, count, first[alike], count - times, retry_advice(kind, count, price, "run")))
    return sorted(found, key=lambda group: (-group.rows, group.kind))


def _others(group: _Group) -> str:
    return f" (and {counted(group.others, 'other message')})" if group.others else ""
