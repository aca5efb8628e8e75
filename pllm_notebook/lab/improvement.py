"""The result of `df.llm.improve`: a better prompt with its gain on held-out rows, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pllm_notebook.formatting import counted, escape_html, format_usd_or, strip_control_chars
from pllm_notebook.lab.labelled_change import LabelledChange
from pllm_notebook.lab.prompt_trials import TaskQuestion
from pllm_notebook.lab.question_diff import WordChange, html_diff, text_diff, word_diff

__all__ = ["Improvement"]

_NOT_PASSED_ON = ("max_cost_usd", "progress")


@dataclass(frozen=True, repr=False)
class Improvement:
    """A search for a better prompt.

    Attributes:
        task: The original question.
        candidate: The best text on the validation rows. The original text if none is better.
        test: Comparison of the candidate with the original text on the held-out rows. None without a better
            candidate, or if the ceiling left no held-out row answered by both.
        validation: Shares of the validation rows that the original text and the candidate get right. The second is
            biased upwards, because the candidate was chosen by it.
        rows: Number of distinct rows for proposals, for the choice, and held out.
        proposed: Number of proposals made.
        cost_usd: US dollars paid by this call. None for an unknown price.
        left_out: The work that the ceiling did not cover. "" for none.
        simulated: Whether answers or proposals are simulated.
    """

    task: TaskQuestion
    candidate: str
    test: LabelledChange | None
    validation: tuple[float, float]
    rows: tuple[int, int, int]
    proposed: int
    cost_usd: float | None
    left_out: str
    simulated: bool = False

    @property
    def found(self) -> bool:
        """Whether the candidate is significantly better on the held-out rows (1 %, two-sided).

        This is for one search: another search with the same labels is tested on the same held-out rows.
        """
        return self.test is not None and self.test.is_significant and self.test.difference > 0

    @property
    def prompt(self) -> str | None:
        """The prompt to use: the candidate if an improvement was found, otherwise the original. None for none."""
        return self.text if self.task.part == "prompt" else self.task.prompt

    @property
    def text(self) -> str:
        """The text to use: the prompt, or the instruction (`system`) if there is no prompt."""
        return self.candidate if self.found else self.task.text

    @cached_property
    def diff(self) -> list[WordChange]:
        """The words that the candidate changes, in pieces."""
        return word_diff(self.task.text, self.candidate)

    def best(self) -> dict[str, Any]:
        """Return arguments for `df.llm.parse(**improved.best())`: the original ones if no improvement was found."""
        kept = {name: value for name, value in self.task.options.items() if name not in _NOT_PASSED_ON}
        text: dict[str, Any] = {self.task.part: self.text} if self.text else {}
        return {"response_format": self.task.response_format, **kept, **text}

    def __repr__(self) -> str:
        changed = ["", text_diff(self.diff)] if self.test is not None else []
        return strip_control_chars("\n".join([*self._lines(), *changed]))

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape_html(line)}</p>" for line in self._lines())
        changed = f"<div style='white-space:pre-wrap'>{html_diff(self.diff)}</div>" if self.test is not None else ""
        return strip_control_chars(f"{said}{changed}")

    def _lines(self) -> Sequence[str]:
        first, *others = self._said()
        return [f"SIMULATED: {first}" if self.simulated else first, *others]

    def _said(self) -> Sequence[str]:
        proposals, held = counted(self.proposed, "proposal"), counted(self.rows[2], "held-out row")
        paid = f"Paid now: {format_usd_or(self.cost_usd, 'an unknown amount')}."
        if self.test is None:
            said = (
                f"No improvement found: of {proposals} none is better on {counted(self.rows[1], 'validation row')}, of "
                f"which the prompt as it is gets {100 * self.validation[0]:.1f} % right. {paid}"
            )
            return [said, self.left_out] if self.left_out else [said]
        head = "A better prompt was found" if self.found else "No improvement found"
        lines = [f"{head}: the best of {proposals}, on {held} that nothing was chosen by. {paid}"]
        lines += self.test.lines()
        if not self.found:
            lines.append("The prompt as it is stays. This is the one that was tried:")
        return [*lines[:-1], self.left_out, lines[-1]] if self.left_out else lines
