"""The display of a comparison: text for terminals, and HTML without scripts, for light and dark themes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pllm_notebook.formatting import counted, escape_html, strip_control_chars
from pllm_notebook.lab.question_diff import WordChange, html_diff, text_diff
from pllm_notebook.report_tables import text_table

__all__ = ["ComparisonView", "RowsOfMove"]

_MOST_MOVES = 12
_LONG_PROMPT = 4_000
_CELL = 300
_ONE_LINE = 24

_STYLE = """<style>
.pllm-compare{--t:var(--jp-ui-font-color1,var(--vscode-foreground,light-dark(#1f2328,#e6e6e6)));
--w:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,light-dark(#59636e,#a8adb3)));
--l:var(--jp-border-color2,var(--vscode-panel-border,light-dark(#d9dde1,#444)));
color:var(--t);font-variant-numeric:tabular-nums;line-height:1.45;max-width:1200px}
.pllm-compare.pllm-compare table{display:block;width:max-content;max-width:100%;overflow-x:auto;
border-collapse:collapse;margin:4px 0 10px;border:0}
.pllm-compare.pllm-compare table tr>:is(th,td){text-align:left;vertical-align:top;
padding:2px 10px 2px 0;border-bottom:1px solid var(--l);
white-space:pre-wrap;overflow-wrap:anywhere;max-width:42em;color:var(--t);background:none}
.pllm-compare.pllm-compare table tr>.s{white-space:nowrap}
.pllm-compare p{margin:2px 0}.pllm-compare .w{color:var(--w)}.pllm-compare summary{cursor:pointer}
.pllm-compare ins{background:light-dark(#d6f5dc,#1d4428);color:var(--t)}
.pllm-compare del{background:light-dark(#ffe0dd,#5a2320);color:var(--t)}
.pllm-compare .q{white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid var(--l);
padding-left:8px;margin:4px 0}
</style>"""


@dataclass(frozen=True, slots=True)
class RowsOfMove:
    """Rows that changed in one direction.

    Attributes:
        label: "sentiment: neutral → negative".
        count: How many there are.
        head: Names of the columns.
        lines: The first of them, as text.
    """

    label: str
    count: int
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """The texts of a displayed comparison.

    Attributes:
        title: The runs that are compared.
        counts: Sentences about the rows.
        verdict: Sentences about the labels. Empty without labels.
        fields: Head and lines of the table of fields.
        moves: Directions of change, the most frequent first.
        shifts: Head and lines of the table of distributions.
        costs: Head and lines of the table of costs.
        prompt: The two prompts in pieces.
        question: The other differences, as (what, old, new).
        simulated: Whether a side's answers are simulated.
    """

    title: str
    counts: Sequence[str]
    verdict: Sequence[str]
    fields: Sequence[Sequence[str]]
    moves: Sequence[RowsOfMove]
    shifts: Sequence[Sequence[str]]
    costs: Sequence[Sequence[str]]
    prompt: list[WordChange] = field(repr=False)
    question: Sequence[tuple[str, str, str]]
    simulated: bool

    def as_text(self) -> str:
        """Return the text for a terminal."""
        marked = f"{self.title} (SIMULATED)" if self.simulated else self.title
        parts = ["\n".join([marked, *self.counts]), "\n".join(self.verdict), text_table(self.fields)]
        if self.moves:
            shown = [f"{one.label}: {one.count:,}" for one in self.moves[:_MOST_MOVES]]
            left = len(self.moves) - len(shown)
            parts.append("\n".join([*shown, *([f"and {counted(left, 'other direction')}: .moves"] if left else [])]))
        parts.append(text_table(self.costs))
        if any(one.old != one.new for one in self.prompt):
            parts.append(f"Prompt:\n{_shortened(text_diff(self.prompt))}")
        parts.append(
            "\n".join(f"{what}: {old or 'not there'} → {new or 'not there'}" for what, old, new in self.question)
        )
        parts.append(".changed has the rows side by side; .select(field, old, new) those of one direction.")
        return strip_control_chars("\n\n".join(part for part in parts if part))

    def as_html(self) -> str:
        """Return the HTML for a notebook, escaped and without scripts."""
        badge = " <b>SIMULATED</b>" if self.simulated else ""
        parts = [f"<p><b>{escape_html(self.title)}</b>{badge}</p>"]
        parts += [f"<p>{escape_html(line)}</p>" for line in self.counts]
        parts += [f"<p><b>{escape_html(line)}</b></p>" if not at else f"<p>{escape_html(line)}</p>"
                  for at, line in enumerate(self.verdict)]  # fmt: skip
        parts.append(_table(self.fields))
        for one in self.moves[:_MOST_MOVES]:
            left = one.count - len(one.lines)
            more = f"<p class='w'>and {left:,} more: .select(…)</p>" if left > 0 else ""
            parts.append(f"<details><summary>{escape_html(one.label)}: {one.count:,}</summary>"
                         f"{_table([one.head, *one.lines])}{more}</details>")  # fmt: skip
        if len(self.shifts) > 1:
            parts.append(f"<details><summary>Distributions</summary>{_table(self.shifts)}</details>")
        parts.append(f"<details><summary>Cost, tokens and latency</summary>{_table(self.costs)}</details>")
        if any(one.old != one.new for one in self.prompt):
            parts.append(
                f"<details open><summary>Prompt</summary><div class='q'>{html_diff(self.prompt)}</div></details>"
            )
        if self.question:
            parts.append(_table([("", "old", "new"), *self.question]))
        parts.append(
            "<p class='w'>.changed has the rows side by side; .select(field, old, new) those of one direction.</p>"
        )
        return strip_control_chars(f"{_STYLE}<div class='pllm-compare'>{''.join(parts)}</div>")


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    top = "".join(f"<th{_short(cell)}>{escape_html(cell)}</th>" for cell in head)
    rows = "".join(
        "<tr>" + "".join(f"<td{_short(cell)}>{escape_html(_cut(cell, _CELL))}</td>" for cell in line) + "</tr>"
        for line in rest
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>"


def _short(text: str) -> str:
    """Return the class of a cell whose text is short enough not to wrap."""
    return " class='s'" if len(text) <= _ONE_LINE else ""


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONG_PROMPT else f"{text[:_LONG_PROMPT]}… (.prompt_diff has the whole)"
