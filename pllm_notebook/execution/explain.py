"""Explain one row: what was sent, what came back, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from pllm_notebook import prompts
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution.conversation import conversation
from pllm_notebook.execution.row_source import JudgedRows
from pllm_notebook.failures import Failure
from pllm_notebook.formatting import escape_html, format_usd_or, strip_control_chars
from pllm_notebook.messages_types import Prompt, RawRequest
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Usage

if TYPE_CHECKING:
    from pllm_notebook.execution.call_spec import CallSpec
    from pllm_notebook.execution.outcome import Outcome
    from pllm_notebook.execution.results import ResultTable
    from pllm_notebook.execution.row_source import RowSource
    from pllm_notebook.protocols import Store

__all__ = ["Explanation", "decoded_body", "explain", "position_of", "shown_examples", "with_evidence"]

# A text this long without white space is an encoded file.
_MAX_STRING_CHARS = 1_000
_FILE_PREFIX_CHARS = 60


# JSON that the notebook shows folded, below the facts and the texts.
_FOLDED = frozenset({"reply", "body"})


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was sent for one row, what came back, and what it cost.

    Attributes:
        position: The row's position, counted from 0.
        status: ok, cached, failed, not_sent, skipped or pending.
        model: The model as displays show it.
        simulated: Whether the answer comes from the simulator.
        prompt: The row's own text, None for a skipped row.
        body: The intended request body, None for a skipped row. For a packed row, the body of its pack with this row
            alone.
        key: Key of the row's call, "" if it had none.
        pack: Maximum number of rows that shared the call, None if the row had its own call.
        pack_id: Key of the shared call, "" for none.
        value: The parsed value, None for none.
        failure: Kind and message, "" for none.
        reply: The raw response body, decoded if it is JSON; None if it is not kept. For a packed row, the reply to the
            whole pack.
        attempts: Requests sent for the row, including repairs.
        latency_s: Seconds that the last request took, None if there was none.
        usage: Tokens, None for unknown.
        cost_usd: US dollars that the answer cost when it was paid, now or earlier; None for unknown.
        steps: If the answer took several steps, each tool call with its result and each reply of the model, in order;
            () for a single reply.
        evidence: A line for each field: what the answer quotes from the row and where; () if no evidence was
            requested.
        examples: The examples that the model was shown, each with its answer as it was sent; () for none.
        label: The row's label in the frame's index, if it differs from the position; otherwise None.
    """

    position: int
    status: str
    model: str
    simulated: bool
    prompt: str | None
    body: Mapping[str, Any] | None
    key: str
    value: Any
    failure: str
    reply: Any
    attempts: int
    latency_s: float | None
    usage: Usage | None
    cost_usd: float | None
    pack: int | None = None
    pack_id: str = ""
    steps: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    label: Any = None

    def __repr__(self) -> str:
        lines = self._lines([("examples", "\n".join(self.examples)), ("prompt", self.prompt or "")])
        return "\n".join(f"{name:<10} {strip_control_chars(text)}" for name, text in lines)

    def _repr_html_(self) -> str:
        # Escape everything: it came from data or a model.
        left = "style='text-align:left;vertical-align:top'"
        wrap = "style='white-space:pre-wrap;margin:0;background:none'"
        rows, folded = [], []
        for name, text in self._lines(self.messages):
            shown = f"<pre {wrap}>{escape_html(text)}</pre>"
            if name in _FOLDED:
                folded.append(f"<details><summary>{name}</summary>{shown}</details>")
            else:
                rows.append(f"<tr><th {left}>{escape_html(name)}</th><td {left}>{shown}</td></tr>")
        return f"<table>{''.join(rows)}</table>{''.join(folded)}"

    @property
    def messages(self) -> list[tuple[str, str]]:
        """The messages as the model saw them, in order: role and text."""
        return conversation(self.body, self.prompt)

    def _lines(self, messages: list[tuple[str, str]]) -> list[tuple[str, str]]:
        cost = format_usd_or(self.cost_usd, "unknown")
        tokens = (
            "unknown" if self.usage is None else f"{self.usage.input_tokens:,} in, {self.usage.output_tokens:,} out"
        )
        label = "" if self.label is None else f", label {self.label!r}"
        lines = [
            ("row", f"{self.position}{label} ({self.status})"),
            ("model", self.model + (" SIMULATED" if self.simulated else "")),
            ("tokens", tokens),
            ("cost", cost),
            ("latency", "" if self.latency_s is None else f"{self.latency_s:.3f} s"),
            ("attempts", str(self.attempts)),
            ("failure", self.failure),
            ("steps", "\n".join(self.steps)),
            ("value", "" if self.value is None else repr(self.value)),
            ("evidence", "\n".join(self.evidence)),
            *messages,
            (
                "pack",
                "" if self.pack is None else f"one of up to {self.pack} rows in call {self.pack_id}",
            ),
            ("key", self.key),
            ("reply", _pretty(self.reply)),
            ("body", _pretty(_without_files(self.body))),
        ]
        return [(name, text) for name, text in lines if text]


def position_of(row: int, total: int, whole: str, hint: str = "") -> int:
    """Return the position of *row*, counted from 0; a negative *row* is counted from the end.

    Args:
        row: As the user gave it.
        total: Number of rows.
        whole: What contains the rows, for the message: a run, a frame.
        hint: Text for the message: another way to name the row.

    Raises:
        UsageError: If there is no such row, or *row* is not a whole number.
    """
    if isinstance(row, bool) or not hasattr(row, "__index__"):
        raise UsageError(f"A row is named by its position, a whole number, not {row!r}.{hint} Nothing was sent.")
    row = row.__index__()
    position = row + total if row < 0 else row
    if not 0 <= position < total:
        extent = f"the {whole} has {total:,}, counted from 0" if total else f"the {whole} has none"
        raise UsageError(f"There is no row {row}: {extent}.{hint} Nothing was sent.")
    return position


def explain(
    spec: CallSpec, rows: RowSource, results: ResultTable, store: Store | None, position: int, decided_key: str = ""
) -> Explanation:
    """Gather what is known about the row at *position*. Sends nothing.

    Args:
        spec: The spec of the row's call. If the answer was decided among several, the spec of the chosen reply.
        rows: The rows.
        results: The run's results.
        store: The cache, None for none.
        position: The row's position, counted from 0.
        decided_key: If the answer was decided among several, the key of the chosen reply; otherwise "".
    """
    one = range(position, position + 1)
    # A decision endpoint receives the text to judge apart from the question.
    decides = spec.target.decisions is not None
    (prompt,) = rows.inputs(one) if decides and isinstance(rows, JudgedRows) else rows.prompts(one)
    asked = None if isinstance(prompt, Failure) else prompt
    outcome, failure = results.outcome(position), results.failure(position)
    call = results.call_of_row[position]
    key = outcome.key if outcome is not None else results.keys[call] if call >= 0 else ""
    entry: StoredReply | None = None if outcome is None or decided_key else outcome.entry
    key = decided_key or key
    if entry is None and store is not None and outcome is not None and outcome.metas:
        entry = store.get_many([key]).get(key)
    replies = [] if outcome is None else outcome.replies()
    # Read from the answer itself: a row that was asked again alone no longer belongs to a pack.
    pack = entry.metadata.get("pack") if entry is not None else None
    pack_id = "" if pack is None or entry is None else entry.metadata.get("pack_id", "")
    whole = None if store is None or pack is None else store.get_many([pack_id]).get(pack_id)
    attempts = sum(metadata["attempts"] for metadata in replies)
    return Explanation(
        position=position,
        status=results.status(position),
        model=spec.target.label,
        simulated=spec.target.simulated,
        prompt=None if asked is None else prompts.prompt_as_text(asked),
        body=None if asked is None else _body(spec, rows, position, asked, packed=pack is not None),
        key=key,
        value=None if outcome is None else outcome.value,
        failure="" if failure is None else f"{failure.kind}: {failure.message}",
        reply=None if entry is None else decoded_body((whole or entry).raw),
        attempts=max(attempts, 0 if failure is None else failure.attempts),
        latency_s=replies[-1]["latency_s"] if replies else None,
        usage=outcome.usage if replies and outcome is not None else None,
        cost_usd=outcome.cost_usd if replies and outcome is not None else None,
        pack=pack,
        pack_id=pack_id,
        steps=_steps(outcome, results.before_retry.get(call), is_decided=bool(decided_key)),
        examples=() if asked is None else shown_examples(spec, asked),
    )


def shown_examples(spec: CallSpec, prompt: Prompt) -> tuple[str, ...]:
    """Return the examples that the model is shown for a row, as text: each prompt with its answer as it is sent."""
    if isinstance(prompt, RawRequest):
        return ()
    dialogue = spec.encoder.dialogue(prompt)
    said = [turn.text for turn in dialogue.turns[: dialogue.shown]]
    return tuple(f"{asked} → {answered}" for asked, answered in zip(said[::2], said[1::2], strict=True))


def with_evidence(run: Any, explained: Explanation) -> Explanation:
    """Add the quotes of the row's answer to an explanation, if the rows can look them up."""
    quoted = getattr(run.rows, "quoted", None)
    return explained if quoted is None else replace(explained, evidence=quoted(run, explained.position))


def _steps(outcome: Outcome | None, before: Outcome | None, *, is_decided: bool) -> tuple[str, ...]:
    """Return a line for each reply or tool result.

    Args:
        outcome: The row's outcome.
        before: The row's outcome before a retry sent it again, None if it was not retried.
        is_decided: Whether the answer was decided among several; the lines then name the models.
    """
    replies = [] if outcome is None else outcome.replies()
    if outcome is None or len(replies) < 2:
        return ()
    lines = [_step(one, (one.get("asked") if is_decided else None) or "the model") for one in replies]
    if outcome.earlier and before is not None and not is_decided:
        last = len(outcome.earlier) - 1
        kind = "" if before.failure is None else f" ({before.failure.kind})"
        lines[last] = f"{lines[last]}, which failed{kind}; retry sent the row again"
    return tuple(lines)


def _step(metadata: Mapping[str, Any], model: str) -> str:
    """Describe in one line what a reply or a tool returned, and why the model was asked (see `Outcome.replies`)."""
    tool = metadata.get("tool")
    if tool is not None:
        return f"{tool['name']} {'failed' if tool['failed'] else 'gave'}: {tool['content']}"
    calls = ", ".join(f"{name}({arguments})" for _, name, arguments in metadata.get("calls") or ())
    asked = f"{model}, {reason}," if (reason := metadata.get("reason")) else model
    return f"{asked} called {calls}" if calls else f"{asked} answered"


def _body(spec: CallSpec, rows: RowSource, position: int, prompt: Prompt, *, packed: bool) -> Mapping[str, Any]:
    if packed and spec.packed is not None:
        text = prompts.packed(rows.source, rows.items(range(position, position + 1)))
        return spec.packed.whole(text)
    return spec.whole(prompt)


def decoded_body(raw: bytes) -> Any:
    """Decode a response body as JSON, or as text if it is not JSON."""
    try:
        return orjson.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def _without_files(value: Any) -> Any:
    """Return a body with encoded files cut short: base64 is unreadable, and images fill pages of it."""
    if isinstance(value, Mapping):
        return {name: _without_files(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_files(inner) for inner in value]
    if (
        isinstance(value, str)
        and len(value) > _MAX_STRING_CHARS
        and not any(map(str.isspace, value[:_MAX_STRING_CHARS]))
    ):
        return f"{value[:_FILE_PREFIX_CHARS]}… ({len(value):,} characters)"
    return value


def _pretty(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
