"""One row opened in a view: the messages sent to the model, the reply, and its usage."""

from __future__ import annotations

from typing import Any

import orjson

from pllm_notebook.execution import Explanation
from pllm_notebook.formatting import format_duration, format_usd_or, strip_control_chars

__all__ = ["row_detail"]

# Maximum characters of one text sent to the browser. `run.explain` has the whole text.
_MOST_CHARS = 8_000
_MOST_MESSAGES = 12


def row_detail(explanation: Explanation | None) -> dict[str, Any]:
    """Return the data that a browser shows for one row.

    `{"facts": [[name, text], ...], "messages": [[role, text], ...], "value": text, "folded": [[title, text], ...]}`

    Args:
        explanation: None if the row's texts must not leave the kernel, or the run is no longer in memory.
    """
    if explanation is None:
        return {"facts": [["row", "not available: the run is no longer held, or shows no texts"]], "messages": [],
                "value": "", "folded": []}  # fmt: skip
    e = explanation
    tokens = "unknown" if e.usage is None else f"{e.usage.input_tokens:,} in, {e.usage.output_tokens:,} out"
    facts = [
        ("status", e.status),
        ("failure", e.failure),
        ("model", e.model + (" SIMULATED" if e.simulated else "")),
        ("tokens", tokens),
        ("cost", format_usd_or(e.cost_usd, "unknown")),
        ("latency", "" if e.latency_s is None else format_duration(e.latency_s)),
        ("attempts", f"{e.attempts:,}" if e.attempts else ""),
        ("steps", "\n".join(e.steps)),
        ("key", e.key),
    ]
    folded = [("reply as it came", _pretty(e.reply)), ("request", _pretty(e.body))]
    return {
        "facts": [[name, _cut(text)] for name, text in facts if text],
        "messages": [[role, _cut(text)] for role, text in e.messages[:_MOST_MESSAGES]],
        "value": "" if e.value is None else _cut(_pretty(_plain(e.value))),
        "folded": [[title, _cut(text)] for title, text in folded if text],
    }


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _pretty(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()
    except TypeError:  # keys that JSON does not support
        return repr(value)


def _cut(text: str) -> str:
    text = strip_control_chars(text[: _MOST_CHARS + 1])
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}… (run.explain shows all of it)"
