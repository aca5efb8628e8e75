"""A report as one HTML file: no scripts, no external resources, all text escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.formatting import escape_html, format_usd_or
from pllm_notebook.report_tables import html_table

__all__ = ["report_page"]

Facts = Mapping[str, Any]

_STYLE = """
:root{color-scheme:light dark;--l:light-dark(#d9dde1,#444);--w:light-dark(#59636e,#a8adb3);
--b:light-dark(#2f6fbb,#7fb2f0)}
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;
font-variant-numeric:tabular-nums}
table{border-collapse:collapse;margin:.5em 0 1em;display:block;overflow-x:auto}
th,td{text-align:left;vertical-align:top;padding:2px 14px 2px 0;border-bottom:1px solid var(--l);
overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid var(--l);padding:4px 10px;margin:.5em 0}
.w{color:var(--w)}h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}summary{cursor:pointer}
svg{vertical-align:middle}svg rect{fill:var(--l)}svg line{stroke:var(--b);stroke-width:3}svg circle{fill:var(--b)}
"""
# The browser loads and runs nothing for the page, whatever text it contains.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_WIDTH = 160


def report_page(facts: Facts) -> str:
    """Return the whole page."""
    title = escape_html(facts["title"])
    sections = "".join(f"<h2>{escape_html(name)}</h2>{body}" for name, body in _sections(facts) if body)
    simulated = "<p><b>SIMULATED: no language model was asked.</b></p>" if _is_simulated(facts) else ""
    rows = "It shows rows, as text." if facts["holds_rows"] else (
        "It contains no text of rows: only the question, counts, values that the type lists, and the names of groups."
    )  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{_POLICY}"><title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>{simulated}'
        f'<p class="w">Made {escape_html(_moment(facts["made_at"]))} by pllm_notebook {escape_html(facts["package"])}. '
        f"{escape_html(rows)}</p>{sections}</body></html>"
    )


def _sections(facts: Facts) -> Iterator[tuple[str, str]]:
    yield "Methods", f"<p>{escape_html(facts['methods'])}</p>"
    yield "Question", _question(facts["question"])
    yield "Models", _table([_run_line(run) for run in facts["runs"]])
    yield "Promise", "".join(f"<p>{escape_html(line)}</p>" for one in facts["promises"] for line in one["lines"])
    yield "Rows", _rows(facts["rows"])
    yield "Answers, as they are", _answers(facts)
    yield "Labels", _labels(facts["labels"])
    yield "Evaluation", "".join(map(_evaluation, facts["evaluation"]))
    yield "Means and shares, corrected", _means(facts)
    yield "What was tried", _tried(facts["comparisons"])
    if "rows_shown" in facts:
        shown = facts["rows_shown"]
        yield "Rows", html_table(shown["head"], shown["lines"])


def _question(question: Facts) -> str:
    parts = []
    for name in ("system", "prompt"):
        if question[name]:
            parts.append(f'<p class="w">{name}</p><pre>{escape_html(question[name])}</pre>')
    if not question["prompt"]:
        parts.append(f"<p>The columns {escape_html(', '.join(question['columns']))}, as data.</p>")
    if question["options"]:
        parts.append(html_table(("option", "value"), [(name, _text(v)) for name, v in question["options"].items()]))
    if examples := question["examples"]:
        parts.append('<p class="w">examples</p>' + html_table(("", ""), [(n, _text(v)) for n, v in examples.items()]))
    for name in ("schema", "source"):
        if question[name]:
            text = question[name] if isinstance(question[name], str) else _json(question[name])
            parts.append(f"<details><summary>{name}</summary><pre>{escape_html(text)}</pre></details>")
    return "".join(parts)


def _run_line(run: Facts) -> dict[str, str]:
    retiring = "; its provider has said that it will be retired" if run["retiring"] else ""
    return {
        "run": run["id"],
        "model": f"{run['model']}{retiring}",
        "answered as": ", ".join(run["served"]) or "not known",
        "began": _moment(run["began"]),
        "state": run["state"],
        "rows": f"{run['total']:,}",
        "cost of the run": format_usd_or(run["cost_usd"], "unknown"),
    }


def _rows(rows: Facts) -> str:
    counts = {"rows": rows["total"], "distinct": rows["distinct"], **rows["status"], "corrected": rows["corrected"]}
    made = _table([{name: f"{count:,}" for name, count in counts.items()}])
    if rows["failures"]:
        made += html_table(("failure", "rows"), [(kind, f"{count:,}") for kind, count in rows["failures"].items()])
    paid = rows["a_row"]
    figures = {
        "US dollars": format_usd_or(paid["cost_usd"], "unknown"),
        "input tokens": _number(paid["input_tokens"], 1),
        "output tokens": _number(paid["output_tokens"], 1),
        "seconds, median": _number(paid["latency_s"], 2),
    }
    return f'{made}<p class="w">A distinct row, when it was paid for (mean of {paid["rows"]:,})</p>{_table([figures])}'


def _answers(facts: Facts) -> str:
    lines = []
    for one in facts["answers"]:
        said = "; ".join(f"{value} {count:,}" for value, count in one.get("values", {}).items())
        if "mean" in one:
            said = f"mean {_size(one['mean'])} ({_size(one['smallest'])} to {_size(one['largest'])})"
        elif "characters" in one:
            said = f"text, {one['characters']:.0f} characters on average"
        agreement = facts["agreement"].get(one["field"])
        sure = facts["confidence"].get(one["column"])
        lines.append({
            "field": one["field"],
            "answered": f"{one['answered']:,}",
            "values": said,
            "samples agree": "" if agreement is None else f"{agreement['mean']:.2f}",
            "confidence": "" if sure is None else f"{sure['mean']:.2f}, below .9 in {100 * sure['below_0.9']:.0f} %",
            "calibration": "" if sure is None else ", ".join(
                f"{kept['name']}: {kept['method']}, {kept['labels']:,} labels" for kept in sure["calibrations"]
            ),
        })  # fmt: skip
    note = '<p class="w">With whatever errors the model makes: nothing here may be read as a figure of the world.</p>'
    return f"{note}{_table(lines)}" if lines else ""


def _labels(labels: Sequence[Facts]) -> str:
    lines = [
        {
            "field": one["field"],
            "distinct rows": f"{one['questions']:,}",
            "by": ", ".join(f"{name or 'not said'} {count:,}" for name, count in one["persons"].items()),
            "drawn": ", ".join(f"{word} {count:,}" for word, count in one["drawn_by"].items()),
            "with a known chance": f"{one['with_chance']:,}",
            "kappa": ", ".join(f"{' and '.join(pair['persons'])} {_number(pair['kappa'], 2)}" for pair in one["kappa"]),
            "beware": one["problem"],
        }
        for one in labels
    ]
    return _table(lines) if lines else "<p>None. Without labels, nothing is known of the answers' errors.</p>"


def _evaluation(one: Facts) -> str:
    text = (
        f"{one['field']} against {one['against']}: accuracy {one['accuracy']:.3f} on {one['rows']:,} labelled rows "
        f"({one['questions']:,} distinct; {one['failed']:,} without an answer, counted as wrong)."
    )
    if one["examples"]:
        text += f" {one['examples']:,} more were examples, and are left out."
    whole = one["whole_table"]
    if whole:
        text += f" In the whole table: {_interval(whole)}."
    if macro := one.get("macro_f1"):
        rest = f"; too few labels: {', '.join(macro['left_out'])}" if macro["left_out"] else ""
        text += f" Macro-F1 {macro['mean']:.3f} ({macro['low']:.3f} to {macro['high']:.3f}{rest})."
    classes = [
        {"class": line["value"], "labels": f"{line['labels']:,}"}
        | {name: _number(line[name], 3) for name in ("precision", "recall", "f1")}
        for line in one.get("classes", ())
    ]
    return f"<p>{escape_html(text)}</p>{_table(classes)}"


def _means(facts: Facts) -> str:
    by = facts["by"]
    lines = []
    for one in facts["means"]:
        of = [one["field"], "mean" if one["value"] is None else one["value"], *(one["group"] or ["all"] * len(by))]
        known = one["method"] != "none"
        figures = [f"{one['rows']:,}", f"{one['labels']:,}", _interval(one), one["method"] if known else "",
                   _number(one["uncorrected"], 3)]  # fmt: skip
        cells = "".join(f"<td>{escape_html(cell)}</td>" for cell in [*of, *figures])
        lines.append(f"<tr>{cells}<td>{_bar(one) if known and one['value'] is not None else ''}</td></tr>")
    if not lines:
        return ""
    names = ["field", "value", *by, "rows", "labels", "95 % interval", "method", "as answered", ""]
    head = "".join(f"<th>{escape_html(name)}</th>" for name in names)
    several = f"<p class='w'>Each interval is of 95 %: of {len(lines):,}, some {len(lines) * 0.05:.0f} miss.</p>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>" + (
        several if len(lines) >= 10 else ""
    )


def _interval(one: Facts) -> str:
    if one["method"] == "none":
        return f"not known: {one['reason']}"
    return f"{one['estimate']:.3f} ({one['low']:.3f} to {one['high']:.3f})"


def _bar(one: Facts) -> str:
    low, mean, high = (round(_WIDTH * one[name]) for name in ("low", "estimate", "high"))
    return (
        f'<svg width="{_WIDTH + 8}" height="12"><rect x="4" y="5" width="{_WIDTH}" height="1"/><line x1="{low + 4}" '
        f'x2="{high + 4}" y1="6" y2="6"/><circle cx="{mean + 4}" cy="6" r="4"/></svg>'
    )


def _tried(made: Facts) -> str:
    return _table([{
        "comparisons": f"{made['comparisons']:,}",
        "of them with labels": f"{made['with_labels']:,}",
        "questions in them": f"{made['questions']:,}",
        "questions asked about these columns and fields": f"{made['asked']:,}",
    }])  # fmt: skip


def _table(lines: Sequence[Mapping[str, str]]) -> str:
    """Return a table of lines with the same names. Empty columns are left out."""
    if not lines:
        return ""
    names = [name for name in lines[0] if any(line[name] for line in lines)]
    return html_table(names, [[line[name] for name in names] for line in lines])


def _is_simulated(facts: Facts) -> bool:
    return any(run["simulated"] for run in facts["runs"])


def _number(value: float | None, places: int) -> str:
    return "not known" if value is None else f"{value:,.{places}f}"


def _moment(iso: str) -> str:
    """Return a moment in UTC as readable text."""
    return f"{iso[:16].replace('T', ' ')} UTC"


def _size(value: float) -> str:
    return f"{value:,.0f}" if 1_000 <= abs(value) < 1e15 else f"{value:.4g}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode()
