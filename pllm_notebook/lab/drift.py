"""`out.llm.recheck`: whether a model still answers as it did, set apart from what asking twice changes anyway."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import Run, decoded_body
from pllm_notebook.formatting import counted
from pllm_notebook.frames.libraries import accessor_of, table_of
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import AnswerSide, frame_side, question_of
from pllm_notebook.lab.field_changes import coded
from pllm_notebook.lab.paired_tests import binomial_tail, holm
from pllm_notebook.options import Options, given_options, is_number, taken_by
from pllm_notebook.prices import is_deprecated
from pllm_notebook.report_tables import HTMLFacts, text_facts
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import resolve

__all__ = ["Drift", "FieldDrift", "asked_again", "drift_p", "recheck_table"]

Numbers = np.ndarray[Any, np.dtype[Any]]

# With so many rows a change of 5 % of them is nearly always found, where asking twice changes nothing.
_ROWS_FOR_5_PERCENT = 200
_LOOKED_AT, _SERVED_SAMPLE = 5, 20
"""Rows by which it is seen that the question is the same, and whose replies say who answered."""
_FIXED = ("prompt", "response_format", "salt", "samples", "models", "explode", "wait")


@dataclass(frozen=True, slots=True)
class FieldDrift:
    """One field, asked again twice.

    Attributes:
        field: Without a run's prefix.
        rows: Rows with all three answers.
        old_differs: Rows where both new answers agree, and the old one differs.
        odd: Rows where two of the three answers agree, and one does not.
        noise: Share of rows whose two new answers differ.
        p: That the old answer is the odd one no more often than in one of three, corrected for the number of fields.
    """

    field: str
    rows: int
    old_differs: int
    odd: int
    noise: float
    p: float


@dataclass(frozen=True, slots=True, repr=False)
class Drift(HTMLFacts):
    """Old answers beside two new ones to the same questions.

    Attributes:
        fields: What each field shows.
        model: As it was asked.
        served: Names in which the provider answered then, and now.
        fingerprints: What OpenAI calls `system_fingerprint`, then and now; () where replies have none.
        retiring: Whether the table of prices (genai-prices) lists the model as deprecated by its provider; None for a
            model that it does not know.
        drawn: Rows that were drawn.
        frames: Both new results, for `compare`.
    """

    fields: tuple[FieldDrift, ...]
    model: str
    served: tuple[Sequence[str], Sequence[str]]
    drawn: int
    frames: tuple[Any, Any]
    fingerprints: tuple[Sequence[str], Sequence[str]] = ((), ())
    retiring: bool | None = None

    @property
    def has_drifted(self) -> bool:
        """Whether any field has p below 0.05."""
        return any(one.p < 0.05 for one in self.fields)

    def __repr__(self) -> str:
        return text_facts(self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        found = [one.field for one in self.fields if one.p < 0.05]
        rows = max((one.rows for one in self.fields), default=0)
        if found:
            said = f"The answers have changed: {', '.join(found)}."
        elif not rows:
            said = "Not known: no row that was drawn has two new answers. .frames has both runs, and their errors."
        else:
            few = "" if rows >= _ROWS_FOR_5_PERCENT else " With so few rows, a larger change may be, too."
            said = (f"No change found in {counted(rows, 'row')} beyond what asking twice changes. Less than 5 % of "
                    f"rows changed may be missed.{few}")  # fmt: skip
        facts = [("drift", said), ("model", self.model)]
        then, now = (", ".join(names) or "not known" for names in self.served)
        facts.append(("served", then if then == now else f"{then}, now {now}"))
        if any(self.fingerprints):
            before, after = (", ".join(prints) or "not known" for prints in self.fingerprints)
            facts.append(("fingerprint", before if before == after else f"{before}, now {after}"))
        if self.retiring:
            facts.append(("retiring", "genai-prices lists this model as deprecated by its provider"))
        for one in self.fields:
            odd = f"the old answer is the odd one in {one.old_differs:,} of {one.odd:,} (a third by chance)"
            facts.append(
                (one.field, f"{odd}, p = {one.p:.3f}; asked twice {100 * one.noise:.1f} % of {one.rows:,} differ")
            )
        return facts


def drift_p(old: Numbers, first: Numbers, second: Numbers) -> tuple[float, int, int]:
    """Return the p that the old answer is the odd one out no more often than by chance, how often it is, of how many.

    Without drift the three answers to a row are exchangeable, so that the old one is the odd one with chance 1/3,
    whatever share of answers differs when asked twice: the test is exact. Rows are to be distinct questions.
    """
    alone = (first == second) & (old != first)
    same = [old == first, first == second, old == second]
    odd = np.logical_or.reduce(same) & ~np.logical_and.reduce(same)
    count, trials = int(alone.sum()), int(odd.sum())
    return binomial_tail(count, trials, 1 / 3), count, trials


def recheck_table(table: Table, response_format: Any, n: int, options: Mapping[str, Any]) -> Drift:
    """Ask rows of a frame again, each twice (see `df.llm.recheck`)."""
    if not is_number(n, whole=True) or n < 1:
        raise UsageError(f"n is a whole number of rows, at least 1, not {n!r}. Nothing was sent.")
    if fixed := [name for name in _FIXED if name in options]:
        raise UsageError(
            f"recheck asks what the run asked, once each time: {fixed[0]}= is not given. Nothing was sent."
        )
    side = frame_side(table)
    rows = _drawn(side, n)
    data = table.column_data(side.source.asked)
    cells = {name: [None if gaps[row] else own[row] for row in rows]
             for name, own, gaps in zip(data.names, data.values, data.missing, strict=True)}  # fmt: skip
    frame = table.frame_library.columns_frame(cells)
    if response_format is not None:
        _check_type(side.source.run, response_format)
    kind, prompt, given = asked_again(side, response_format, "recheck")
    resolve({**given, **options})  # what is wrong with them is raised before anything is announced
    if isinstance(side.source.run, RegisteredRun) and kind is not None:
        _check_question(side, rows, frame, kind, prompt, given)
    # The same call of the same day goes on where it stopped, in another kernel too, where the same question is another
    # run; another day's asks again. The question's own salt is in it: what a recheck answered would else be compared
    # with itself.
    own = _salt_of(side.source.run)
    day = datetime.now(UTC).date().isoformat()
    print(f"Asking {len(rows):,} rows twice: {2 * len(rows):,} calls.")
    runs = []
    try:
        for time in (1, 2):
            asked = {**given, **options, "salt": f"recheck {own}{day} {time}"}
            ask = accessor_of(frame, "recheck")
            # Text is asked for as text: the type `str` is another question, whose answers differ from the old ones.
            runs.append(ask.submit_text(prompt, **asked) if kind is None else ask.submit(kind, prompt, **asked))
        results = [run.result() for run in runs]
    except BaseException:
        for run in runs:
            run.cancel()
        raise
    sides = []
    for result in results:
        made = table_of(result)
        assert made is not None
        sides.append(frame_side(made))
    model = str(question_of(side.source)["model"])
    then = _served(side.source.run, [row for row in side.row[rows].tolist() if row >= 0])
    now = _served(runs[0], range(len(rows)))
    return Drift(
        fields=_field_drifts(side, rows, sides),
        model=model,
        served=(then[0], now[0]),
        drawn=len(rows),
        frames=(results[0], results[1]),
        fingerprints=(then[1], now[1]),
        retiring=is_deprecated(model),
    )


def _check_question(
    side: AnswerSide, rows: Sequence[int], frame: Any, kind: Any, prompt: str | None, given: Mapping[str, Any]
) -> None:
    """Check that an earlier kernel's question is asked again, and not one like it.

    A simulator with other answers, or another setting, makes other calls: their answers would differ without any drift.
    So the stored answers must be found by the calls that are about to be made.

    Raises:
        UsageError: When none is. Nothing was sent.
    """
    run = side.source.run
    assert isinstance(run, RegisteredRun)
    if "pack" in run.header["options"] or (side.row[rows] < 0).all():
        return
    table = table_of(frame)
    assert table is not None
    first = [at for at, row in enumerate(rows[:_LOOKED_AT]) if side.row[row] >= 0]
    kept = run.replies_of([int(side.row[rows[at]]) for at in first])
    if not kept:  # deleted, or never kept: nothing to compare with
        return
    salt = run.header["options"].get("salt")
    asked = {**given} if salt is None else {**given, "salt": salt}
    ask = accessor_of(table.slice(range(min(table.total, _LOOKED_AT))).data, "recheck")
    if not ask.estimate(kind, prompt, **asked).cached:
        simulated = " The simulator of this kernel may have other answers." if run.header["simulated"] else ""
        raise UsageError(
            f"The cache has answers of the run {run.id!r}, and not to the question that would be asked now: a "
            f"setting is not that of the run.{simulated} Nothing was sent."
        )


def _salt_of(run: Any) -> str:
    """Return the salt of a run's question as the beginning of another, "" for none."""
    salt = run.header["options"].get("salt") if isinstance(run, RegisteredRun) else run.ask.options.salt
    return f"{salt} " if salt else ""


def _drawn(side: AnswerSide, n: int) -> list[int]:
    """Draw answered rows uniformly, equal rows once; corrected ones are none of the model's."""
    _, first = np.unique(side.content, return_index=True)
    there = first[(side.status[first] >= 0) & (side.status[first] <= 1)].tolist()
    if not there:
        raise UsageError("No row of this frame has an answer of a run, so there is nothing to ask again.")
    return random.Random(len(there)).sample(there, min(n, len(there)))


def asked_again(side: AnswerSide, response_format: Any, method: str) -> tuple[Any, str | None, dict[str, Any]]:
    """Return type, prompt and options with which rows of a side are asked again; the type is None for text.

    Args:
        side: Whose first run is asked again.
        response_format: As given by the caller, None for the run's own.
        method: Name of the method that asks, for errors.

    Raises:
        UsageError: For a run that is no longer in memory, without a type. Nothing was sent.
        PllmError: For a run that decided among several answers. Nothing was sent.
    """
    run = side.source.run
    prompt = question_of(side.source)["prompt"]
    taken = set(taken_by(Options, "parse")) - {"salt", "cache", "samples", "replace", "error_column", "mode", "columns"}
    if isinstance(run, RegisteredRun):
        is_text = run.header["schema"] is None
        if response_format is None and not is_text:
            raise UsageError(
                f"The run {run.id!r} is no longer in memory: pass the type that it was asked with, "
                f"out.llm.{method}(Review). Nothing was sent."
            )
        if run.header["ensemble"] is not None:
            raise _decided(method)
        if run.header.get("examples") is not None:  # the registry holds no text of rows
            raise PllmError(
                f"The run {run.id!r} was shown examples and is no longer in memory: run its cell again, which sends "
                f"nothing, and then out.llm.{method}(). Nothing was sent."
            )
        given = {name: value for name, value in run.header["options"].items() if name in taken}
        return None if is_text else response_format, prompt, given | {"model": run.header["model"]}
    assert isinstance(run, Run)
    if run.execution.decider is not None:
        raise _decided(method)
    given = {name: value for name, value in given_options(run.ask.options).items() if name in taken}
    kind = None if run.ask.output is None else run.ask.output.kind if response_format is None else response_format
    return kind, prompt, given


def _decided(method: str) -> PllmError:
    return PllmError(f"{method} asks single answers again, and this run decided among several. Nothing was sent.")


def _check_type(run: Run | RegisteredRun, response_format: Any) -> None:
    """Check that a type is the one that the run asked for.

    Raises:
        UsageError: If it is another. Nothing was sent.
    """
    asked = OutputType.of(response_format)
    if isinstance(run, RegisteredRun):
        before = run.header["schema"]
    else:
        before = None if run.ask.output is None else run.ask.output.json_schema
    if before is None or orjson.dumps(before, default=repr) != orjson.dumps(asked.json_schema, default=repr):
        raise UsageError(
            f"recheck asks what the run {run.id!r} asked, and {asked.name} is another type than its own. Pass that "
            f"one, or none while the run is in memory. Nothing was sent."
        )


def _field_drifts(side: AnswerSide, rows: Sequence[int], new: Sequence[AnswerSide]) -> tuple[FieldDrift, ...]:
    answered = np.flatnonzero(new[0].answered & new[1].answered).tolist()
    made = []
    for field in side.columns:
        if field not in new[0].values or field not in new[1].values:
            continue
        old = [side.values[field][rows[at]] for at in answered]
        first, second = ([one.values[field][at] for at in answered] for one in new)
        codes, both, _ = coded(old, [*first, *second])
        p, count, trials = drift_p(codes, both[: len(old)], both[len(old) :])
        noise = float(np.mean(both[: len(old)] != both[len(old) :])) if old else float("nan")
        made.append(FieldDrift(field, len(old), count, trials, noise, p))
    corrected = holm([one.p for one in made])
    return tuple(
        FieldDrift(one.field, one.rows, one.old_differs, one.odd, one.noise, p)
        for one, p in zip(made, corrected, strict=True)
    )


def _served(run: Any, rows: Sequence[int]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names and fingerprints in which some rows of a run were answered, as far as replies are kept."""
    recorded = run if isinstance(run, RegisteredRun) else RegisteredRun.find(run.id)
    if recorded is None:
        return (), ()
    names: dict[str, None] = dict.fromkeys(recorded.header["served"])
    prints: dict[str, None] = {}
    for _, entry in recorded.replies_of(list(rows)[:_SERVED_SAMPLE]).values():
        if name := entry.metadata.get("model"):
            names[str(name)] = None
        body = decoded_body(entry.raw)
        if isinstance(body, Mapping) and body.get("system_fingerprint"):
            prints[str(body["system_fingerprint"])] = None
    return tuple(names), tuple(prints)
