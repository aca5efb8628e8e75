"""The request lines of a batch job, shown before anything is submitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import orjson

from pllm_notebook import prompts
from pllm_notebook.batch import custom_id
from pllm_notebook.engine import engine
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution.call_spec import CallSpec, EncodedPrompt
from pllm_notebook.execution.estimate_plan import EstimatePlan
from pllm_notebook.execution.launch import batch_service, store_for
from pllm_notebook.execution.row_source import Rows
from pllm_notebook.formatting import escape_html, strip_control_chars
from pllm_notebook.settings import current

__all__ = ["RequestLines", "request_lines"]


@dataclass(frozen=True, slots=True)
class RequestLines:
    """The first request lines of a batch, as they would be submitted. Nothing was sent.

    A line has the request's id and its body, and no key: keys are headers.

    Attributes:
        lines: JSON lines, identical to those of the request file.
        total: Total number of lines that would be submitted.
        model: The model as the user writes it.
        simulated: Whether the answers would be simulated.
    """

    lines: tuple[str, ...]
    total: int
    model: str
    simulated: bool = False

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __getitem__(self, at: int) -> str:
        return self.lines[at]

    def __repr__(self) -> str:
        return strip_control_chars("\n\n".join((self._head(), *map(_indented, self.lines))))

    def _repr_html_(self) -> str:
        wrap = "style='white-space:pre-wrap'"
        lines = "".join(f"<pre {wrap}>{escape_html(_indented(line))}</pre>" for line in self.lines)
        return f"<p>{escape_html(self._head())}</p>{lines}"

    def _head(self) -> str:
        model = self.model + (" SIMULATED" if self.simulated else "")
        return f"{len(self.lines):,} of {self.total:,} request lines for {model}. Nothing was sent."


def request_lines(specs: Sequence[CallSpec], rows: Rows, count: int) -> RequestLines:
    """Return the first request lines that a batch of some specs over the same rows would submit.

    Calls that the cache answers, that were rejected before, or that already wait in a job have no line. Needs no key
    and sends nothing.

    Args:
        specs: The specs of the calls.
        rows: The rows.
        count: Maximum number of lines.

    Raises:
        UsageError: If *count* is below 1, or a spec cannot be sent as a batch. Nothing was sent.
        StoreError: If the cache or the journal cannot be opened. Nothing was sent.
    """
    if count < 1:
        raise UsageError(f"rows= is the number of lines to show, at least 1, not {count!r}. Nothing was sent.")
    lines: list[str] = []
    total = 0
    for spec in specs:
        made, unsent = _lines_of(spec, rows, count - len(lines))
        lines += made
        total += unsent
    models = ", ".join(dict.fromkeys(spec.target.label for spec in specs))
    return RequestLines(tuple(lines), total, models, any(spec.target.simulated for spec in specs))


def _lines_of(spec: CallSpec, rows: Rows, count: int) -> tuple[list[str], int]:
    """Return the first lines of one spec, and its total number of lines."""
    target = spec.target
    if target.batch_format is None:
        raise UsageError(f"mode='batch' cannot be used with {target.label}: {target.no_batch_reason} Nothing was sent.")
    for one in (spec, spec.packed):
        if one is not None:
            one.shown = True
    store = store_for(spec.options)
    unsent = EstimatePlan(spec, rows, store, batch_service(engine(current().loop), store).journal.pending)
    if spec.packed is not None:
        spec.packed.expect(prompts.packed(rows.source, ()))
    requests = unsent.requests()
    first: list[tuple[CallSpec, EncodedPrompt]] = list(islice(requests, count))
    total = len(first) + sum(1 for _ in requests)
    made = []
    for asked, encoded in first:
        # Only now: the common prefix, which is marked for the provider's prompt cache, is known after the iteration.
        asked.shared = total > 1
        made.append(target.batch_format.line(custom_id(asked.key(encoded)), asked.content(encoded)).decode())
    return made, total


def _indented(line: str) -> str:
    return orjson.dumps(orjson.loads(line), option=orjson.OPT_INDENT_2).decode()
