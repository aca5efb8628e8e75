"""The display of `df.llm`: its methods for a frame, or the frame's run and the next steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import LiveRun, live_lines, recorded_lines, shown
from pllm_notebook.formatting import counted, strip_control_chars
from pllm_notebook.frames import result_views
from pllm_notebook.frames.guarantees import promise_of
from pllm_notebook.frames.provenance import Source, named_run
from pllm_notebook.frames.table import Table
from pllm_notebook.report_tables import html_facts, text_facts
from pllm_notebook.settings import current

__all__ = ["summary_html", "summary_text"]

_NAMED = 8
"""Maximum number of columns named in a summary."""

# Methods, their arguments and their descriptions. An accessor without a method does not show it.
_CALLS = (
    ("estimate", "Model, prompt", "estimates cost and time of all rows; sends nothing"),
    ("preview", "Model, prompt", "asks the first rows, and shows the cost of all"),
    ("parse", "Model, prompt", "asks every row: a typed column for each field"),
    ("complete", "prompt", "asks every row for text"),
    ("submit", "Model, prompt", "parse in the background: pause(), cancel(), retry(), await it"),
    ("decide", "columns, prompt", "a judge decides between columns of answers"),
    ("chunks", "column", "cuts long texts into rows; reduce(prompt) combines their answers"),
    ("label", "'column'", "stores the right values of rows; evaluate(against='labels') compares with them"),
)


def summary_html(accessor: Any, table: Table) -> str:
    """Return the HTML of an accessor for notebooks."""
    title, lines, calls, simulated = _summary(accessor, table)
    return shown(title, lines, simulated=simulated) + html_facts(calls)


def summary_text(accessor: Any, table: Table) -> str:
    """Return the text of an accessor for consoles."""
    title, lines, calls, simulated = _summary(accessor, table)
    mark = " SIMULATED" if simulated else ""
    return strip_control_chars("\n".join([f"{title}{mark}", *lines, text_facts(calls)]))


def _summary(accessor: Any, table: Table) -> tuple[str, list[str], list[tuple[str, str]], bool]:
    """Return a title, lines, calls with their descriptions, and whether a simulator answered."""
    columns = list(table.names)
    size = f"{counted(table.total, 'row')}, {counted(len(columns), 'column')}"
    try:
        source = named_run(table)
        counts = [] if source is None else [(word, times) for word, times in result_views.status_counts(table) if times]
    except PllmError:  # the run is no longer known, or its id is on other rows
        source = None
    if source is None:
        names = ", ".join(columns[:_NAMED]) + (", …" if len(columns) > _NAMED else "")
        model = current().options.get("model")
        lines = [f"{size}: {names}", *([f"Model: {model}"] if model else [])]
        return "llm", lines, list(_calls_for(accessor, columns)), False
    run = source.run
    if isinstance(run, LiveRun):
        p = run.progress()
        line, simulated = live_lines(run.id, p, run.rows.source, run.origin)[0], p.simulated
    else:
        line, simulated = recorded_lines(run.header, run.state)[0], bool(run.header["simulated"])
    words = ", ".join(f"{times:,} {word}" for word, times in counts)
    return f"llm: made by run {run.id}", [f"{size}: {words}", line], list(_next_calls(source, dict(counts))), simulated


def _calls_for(accessor: Any, columns: list[str]) -> Iterator[tuple[str, str]]:
    for name, arguments, says in _CALLS:
        if hasattr(accessor, name):
            yield f".{name}({arguments})", says
    text = f"{{{columns[0]}}}" if columns else "…"
    yield "Model, prompt", f"a Pydantic model or any type; text with {text}. help(df.llm.parse) lists the options"


def _next_calls(source: Source, counts: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the next steps for the result of a run."""
    run = source.run
    if counts.get("failed"):
        yield ".errors", f"why {counted(counts['failed'], 'row')} failed, by kind, and whether asking again helps"
    if counts.get("not_sent"):
        yield "max_cost_usd=", "raise it and run the cell again to continue where the ceiling stopped it"
    if promise := promise_of(source):
        yield ".guarantee", promise
    yield ".explain(0)", "one row: messages, reply, tokens, cost"
    options = run.spec.options.probabilities if isinstance(run, LiveRun) else run.header["options"].get("probabilities")
    if options:
        yield ".doubtful()", "the rows whose answers are least certain"
    yield ".usage, .status", "tokens, cost and time; the status of each row"
    yield ".review()", "accept or correct answers; evaluate(against='labels') measures their accuracy"
    yield ".compare('previous')", "changes since an earlier run on these rows"
    yield f"pllm.run({run.id!r})", "the whole run"
