"""The answers of the first rows, and an estimate for all rows (see `df.llm.preview`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pllm_notebook.ensemble import Spec
from pllm_notebook.execution import CallSpec, Estimate, shown_examples
from pllm_notebook.failures import Failure
from pllm_notebook.formatting import escape_html, strip_control_chars
from pllm_notebook.frames.table_rows import TableRows

__all__ = ["Preview", "first_examples"]

_LOOKED_AT = 100
"""Number of rows from the top that are searched for one with a prompt, to show its examples."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The answers of the first rows, and an estimate for all rows.

    Attributes:
        frame: The first rows with their answers; a Series if `parse` returns one.
        estimate: Calls and cost of all rows, estimated after the first ones were answered.
        examples: The examples in the first row's call, each with its answer, as sent; () without examples.
        sent: With `probabilities="decisions"`, path and body of each call of the first row, as sent.
    """

    frame: Any
    estimate: Estimate
    examples: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return strip_control_chars(f"{self._shown()}{self.frame!r}\n\n{self.estimate!r}{self._requests()}")

    def _requests(self) -> str:
        return "".join(f"\n\n{each}" for each in ("Sent for the first row:", *self.sent)) if self.sent else ""

    def _shown(self) -> str:
        return "".join(f"{each}\n" for each in ("Examples:", *self.examples, "")) if self.examples else ""

    def _repr_html_(self) -> str:
        frame = self.frame.to_frame() if hasattr(self.frame, "to_frame") else self.frame
        as_html = getattr(frame, "_repr_html_", None)  # Arrow's tables do not have it
        shown = f"<pre>{escape_html(repr(frame))}</pre>" if as_html is None else as_html()
        examples = f"<pre>{escape_html(self._shown())}</pre>" if self.examples else ""
        sent = f"<pre>{escape_html(self._requests().strip())}</pre>" if self.sent else ""
        return strip_control_chars(f"{examples}{shown}{self.estimate._repr_html_()}{sent}")


def first_examples(spec: Spec, rows: TableRows) -> tuple[str, ...]:
    """Return the examples in the call of the first row with a prompt, as text; () without examples."""
    if rows.examples is None:
        return ()
    prompts = rows.prompts(range(min(rows.total, _LOOKED_AT)))
    first = next((one for one in prompts if one is not None and not isinstance(one, Failure)), None)
    asked = spec if isinstance(spec, CallSpec) else spec.members[0].spec
    return () if first is None else shown_examples(asked, first)
