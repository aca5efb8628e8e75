"""`out.llm.report`: the questions, answers, labels and comparisons of a frame, as a page, JSON and a paragraph."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.file_errors import file_errors, file_path
from pllm_notebook.files import replacing
from pllm_notebook.formatting import counted
from pllm_notebook.frames.dtypes import CellType
from pllm_notebook.frames.guarantees import figures_of
from pllm_notebook.frames.provenance import Provenance, provenance_of
from pllm_notebook.frames.stored_labels import STORED
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import AnswerSide, frame_side
from pllm_notebook.lab.bundle import bundle_path, write_bundle
from pllm_notebook.lab.comparisons_made import comparisons_of
from pllm_notebook.lab.corrected_groups import (
    FieldAnswers,
    field_answers,
    group_means,
    groups_of,
    item_answers,
    own_answers,
    with_labels_of,
)
from pllm_notebook.lab.label_facts import evaluation_facts, figure_of, label_facts
from pllm_notebook.lab.methods_text import methods_text
from pllm_notebook.lab.report_facts import (
    agreement_facts,
    answer_facts,
    bounds_in,
    confidence_facts,
    header_of,
    question_facts,
    row_facts,
    run_facts,
    shown_rows,
)
from pllm_notebook.lab.report_page import report_page
from pllm_notebook.options import is_number
from pllm_notebook.report_tables import HTMLFacts, text_facts

__all__ = ["Report", "report_table"]

_WHAT = "a report"
_UNWRITTEN = "Nothing was written."


@dataclass(frozen=True, slots=True, repr=False)
class Report(HTMLFacts):
    """The questions, answers, labels and comparisons of a frame. Nothing was sent for it.

    Attributes:
        data: All contents as JSON data (see docs/report.md).
        paths: The files written.
    """

    data: Mapping[str, Any] = field(repr=False)
    paths: tuple[str, ...]
    _table: Table = field(repr=False)

    @property
    def methods(self) -> str:
        """A paragraph for the methods section of a paper."""
        return str(self.data["methods"])

    @property
    def html(self) -> str:
        """The page: one HTML file without scripts that loads nothing."""
        return report_page(self.data)

    @property
    def means(self) -> Any:
        """A line for each mean or share, for all rows and for each group.

        Columns: field, value (NA for a mean), the groups (NA for all rows), estimate, low and high (NA if the labels
        allow no interval), uncorrected, labels, questions, rows, method and reason (see `statistics.CorrectedMean`).
        """
        by = [name if name not in _MEANS else f"{name}_" for name in self.data["by"]]
        lines = [
            {name: one[name] for name in _MEANS} | dict(zip(by, one["group"] or [None] * len(by), strict=True))
            for one in self.data["means"]
        ]
        names = ["field", "value", *by, *(name for name in _MEANS if name not in ("field", "value"))]
        types = {name: _MEANS.get(name, CellType.TEXT) for name in names}
        return self._table.frame_library.report(types, lines)

    def __repr__(self) -> str:
        return text_facts(self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        data = self.data
        known = [one for one in data["means"] if one["method"] != "none"]
        made = data["comparisons"]
        facts = [("report", data["title"]), ("methods", data["methods"])]
        facts += [("figures", f"{len(known):,} of {len(data['means']):,} with an interval: .means")]
        facts.append(
            ("tried", f"{counted(made['questions'], 'question')}, {counted(made['comparisons'], 'comparison')}")
        )
        return [*facts, *(("written", path) for path in self.paths)]


_MEANS = {
    "field": CellType.TEXT,
    "value": CellType.TEXT,
    "estimate": CellType.REAL,
    "low": CellType.REAL,
    "high": CellType.REAL,
    "uncorrected": CellType.REAL,
    "labels": CellType.COUNT,
    "questions": CellType.COUNT,
    "rows": CellType.COUNT,
    "method": CellType.TEXT,
    "reason": CellType.TEXT,
}


def report_table(
    table: Table,
    path: Any = None,
    *,
    by: str | Sequence[str] | None = None,
    against: Any = None,
    field: str | None = None,
    rows: int = 0,
    title: str | None = None,
    bundle: Any = None,
    bundle_rows: bool = False,
) -> Report:
    """Report on a frame (see `df.llm.report`)."""
    target = None if path is None else _page_path(path)
    if not is_number(rows, whole=True) or rows < 0:
        raise UsageError(f"rows is a whole number of rows to show, not {rows!r}. {_UNWRITTEN}")
    if title is not None and not isinstance(title, str):
        raise UsageError(f"title is text, not {title!r}. {_UNWRITTEN}")
    if not isinstance(bundle_rows, bool):  # any text is true, even "no", and the bundle would contain rows
        raise UsageError(f"bundle_rows is True or False, not {bundle_rows!r}. {_UNWRITTEN}")
    if bundle_rows and bundle is None:
        raise UsageError(f"bundle_rows=True says what is in a bundle, and bundle= names none. {_UNWRITTEN}")
    packed = None if bundle is None else bundle_path(bundle)
    side = frame_side(table, takes_items=True)
    if side.source.explode and (by is not None or against is not None or field is not None):
        raise UsageError(
            f"This frame has a line for each item of an answer, and labels are of rows: there are no means by group "
            f"and no evaluation. Leave by=, against= and field= out. {_UNWRITTEN}"
        )
    groups = groups_of(table, side, by)
    data = _facts(table, side, groups, rows)
    if against is not None and not (isinstance(against, str) and against == STORED and STORED not in table.names):
        data["evaluation"] = [_against(table, side, against, field)]
    elif field is not None:
        _checked(side, field)
        data["evaluation"] = [one for one in data["evaluation"] if one["field"] == field]
    data["title"] = title or f"{data['question']['type']}: {counted(table.total, 'row')}"
    data = _storable(data)
    data["methods"] = methods_text(data)
    written: tuple[str, ...] = ()
    if target is not None:
        written = (target, f"{target.removesuffix('.html')}.json")
    pieces = (report_page(data).encode(), orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    if packed is not None:
        page = dict(zip(("report.html", "report.json"), pieces, strict=True))
        write_bundle(table, packed, page, str(data["title"]), with_rows=bundle_rows)
    for path, content in zip(written, pieces, strict=bool(written)):
        # Minus the umask: a report is for others to read.
        with file_errors(path, _WHAT, _UNWRITTEN, writing=True), replacing(path, mode=0o666) as file:
            file.write(content)
    return Report(data, (*written, *(() if packed is None else (packed,))), table)


def _facts(table: Table, side: AnswerSide, groups: Any, rows: int) -> dict[str, Any]:
    found = provenance_of(table)
    headers = [header_of(source) for source in found.sources]
    if side.source.explode:
        items = [item_answers(side, name) for name in side.columns]
        return _general_facts(table, side, found, headers, items, rows) | _NO_LABELS
    own = own_answers(table, side)
    fields = [field_answers(table, side, name, own) for name in side.columns]
    means = [
        {"field": one.field, "value": None if one.value is None else str(one.value), "group": list(one.group)}
        | figure_of(one.of)
        for answers in fields
        for one in group_means(answers, groups, bounds_in(headers[0]["schema"], answers.field))
    ]
    labels = [facts for one in fields if (facts := label_facts(one)) is not None]
    evaluated = [facts for one in fields if (facts := evaluation_facts(one, "stored labels")) is not None]
    return _general_facts(table, side, found, headers, fields, rows) | {
        "labels": labels,
        "evaluation": evaluated,
        "by": list(groups.columns),
        "means": means,
    }


# Labels are for rows, not for the items of their answers.
_NO_LABELS: dict[str, Any] = {"labels": [], "evaluation": [], "by": [], "means": []}


def _general_facts(
    table: Table,
    side: AnswerSide,
    found: Provenance,
    headers: Sequence[Mapping[str, Any]],
    fields: Sequence[FieldAnswers],
    rows: int,
) -> dict[str, Any]:
    """Return all facts that need no labels."""
    made = comparisons_of(found.sources[0])
    data: dict[str, Any] = {
        "format": "pllm_notebook report",
        "version": 1,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "package": version("pllm_notebook"),
        "holds_rows": rows > 0,
        "question": question_facts(headers[0], with_rows=rows > 0),
        "runs": [run_facts(header) for header in headers],
        "promises": [
            figures.written() | {"promise": figures.promise, "lines": figures.lines()}
            for source in found.sources
            if (figures := figures_of(source)) is not None
        ],
        "rows": row_facts(table, side, found),
        "answers": [answer_facts(one) | {"column": one.column.name} for one in fields],
        "agreement": agreement_facts(found, table.total),
        "confidence": confidence_facts(table, found),
        "comparisons": {name: getattr(made, name) for name in made.__slots__},
    }
    if rows:
        data["rows_shown"] = shown_rows(table, side, rows)
    return data


def _against(table: Table, side: AnswerSide, against: Any, field: str | None) -> dict[str, Any]:
    """Return the evaluation against a column of the frame."""
    named = field or (against if isinstance(against, str) and against in side.columns else None)
    if named is None and len(side.columns) == 1:
        named = next(iter(side.columns))
    if named is None:
        raise UsageError(f"There are several fields: pass field= with one of {list(side.columns)}. {_UNWRITTEN}")
    _checked(side, named)
    answers = field_answers(table, side, named, own_answers(table, side))
    without = [column.name for column in side.source.made]
    named_by = against if isinstance(against, str) else table.labels(against, without).name or "labels"
    made = evaluation_facts(with_labels_of(answers, table, against, without), named_by)
    if made is None:
        raise UsageError(f"No row has a label in against=, or {named!r} has no values to compare. {_UNWRITTEN}")
    return made


def _checked(side: AnswerSide, field: str) -> None:
    if field not in side.columns:
        known = list(side.columns)
        raise UsageError(f"There is no field {field!r} among {known}.{guess(field, known)} {_UNWRITTEN}")


def _page_path(path: Any) -> str:
    target = os.path.abspath(file_path(path, _WHAT, _UNWRITTEN))
    if not target.endswith(".html"):
        raise UsageError(f"A report is a page and a JSON file beside it: its path ends in .html, not {path!r}. "
                         f"{_UNWRITTEN}")  # fmt: skip
    return target


def _storable(value: Any) -> Any:
    """Return plain data that JSON can represent: without NaN and lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_storable(str(name)): _storable(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(one) for one in value]
    if value is None or isinstance(value, (bool, int, float)):
        return None if value != value else value  # JSON has no NaN
    return _storable(str(value))
