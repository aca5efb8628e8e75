"""`out.llm.recheck`: ask rows of a run again, each twice, and compare the three answers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from pllm_notebook.exceptions import PllmError, ProviderRejectedError, UsageError
from pllm_notebook.execution import Estimate, LiveRun, Run, RunWait, Steps, decoded_body, live_of
from pllm_notebook.failures import FailureKind
from pllm_notebook.formatting import counted
from pllm_notebook.frames.libraries import accessor_of, table_of
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.response_format import read_options
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import AnswerSide, frame_side, question_of
from pllm_notebook.lab.drift import Drift, field_drifts
from pllm_notebook.lab.recheck_pairs import recheck_salt, salt_of
from pllm_notebook.options import Options, given_options, is_number, taken_by
from pllm_notebook.prices import is_deprecated
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import resolve

__all__ = ["asked_again", "recheck_table"]

_LOOKED_AT, _SERVED_SAMPLE = 5, 20
"""Number of rows used to check that the question is the same, and to read the served model names."""
_FIXED = ("prompt", "response_format", "salt", "samples", "models", "explode", "wait")


def recheck_table(table: Table, response_format: Any, n: int, options: Mapping[str, Any]) -> Steps[Drift]:
    """Ask rows of a frame again, each twice (see `df.llm.recheck`)."""
    if not is_number(n, whole=True) or n < 1:
        raise UsageError(f"n is a whole number of rows, at least 1, not {n!r}. Nothing was sent.")
    if fixed := [name for name in _FIXED if name in options]:
        raise UsageError(
            f"recheck asks what the run asked, once each time: {fixed[0]}= is not given. Nothing was sent."
        )
    side = frame_side(table)
    rows = _drawn(side, n)
    frame = table.frame_library.columns_frame({name: table.column_of(name, rows) for name in side.source.asked})
    if response_format is not None:
        _check_type(side.source.run, response_format)
    kind, prompt, given = asked_again(side, response_format, "recheck", options)
    resolved = resolve({**given, **options})  # errors in the options are raised before anything is announced
    if isinstance(side.source.run, RegisteredRun) and kind is not None:
        _check_question(side, rows, frame, kind, prompt, given)
    own, day = salt_of(side.source.run), datetime.now(UTC).date().isoformat()
    times = [{**given, **options, "salt": recheck_salt(own, day, time)} for time in (1, 2)]
    estimates = [accessor_of(frame, "recheck").estimate(kind, prompt, **asked) for asked in times]
    _announce(len(rows), estimates, may_send=resolved.cache != "only")
    runs: list[Run] = []
    try:
        for asked in times:
            ask = accessor_of(frame, "recheck")
            # Plain text is requested as plain text: the type `str` is a different question with different answers.
            runs.append(ask.submit_text(prompt, **asked) if kind is None else ask.submit(kind, prompt, **asked))
        for run in runs:
            yield RunWait(live_of(run))
        results = [run.result() for run in runs]
    except BaseException as error:
        for run in runs:
            run.cancel()
        if isinstance(error, ProviderRejectedError) and error.kind == FailureKind.UNKNOWN_MODEL:
            raise _retired(side, error) from None
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
        fields=field_drifts(side, rows, sides),
        model=model,
        served=(then[0], now[0]),
        drawn=len(rows),
        frames=(results[0], results[1]),
        fingerprints=(then[1], now[1]),
        retiring=is_deprecated(model, [*then[0], *now[0]]),
    )


def _announce(rows: int, estimates: Sequence[Estimate], *, may_send: bool) -> None:
    """Announce the number of calls before any is sent."""
    calls = sum(one.calls for one in estimates) if may_send else 0
    kept = sum(one.cached for one in estimates)
    known = "" if not kept else f" The cache answers {kept:,}." if calls else " The cache has the answers."
    print(f"Asking {counted(rows, 'row')} twice: {counted(calls, 'call')}.{known}")


def _retired(side: AnswerSide, error: ProviderRejectedError) -> PllmError:
    """Return the error for a model that answered before and that its provider no longer has."""
    model, run = str(question_of(side.source)["model"]), side.source.run
    began = run.started_at if isinstance(run, LiveRun) else run.header["started_at"]
    day = datetime.fromtimestamp(began, UTC).date().isoformat()
    return PllmError(
        f"{model} answered on {day}, but the provider no longer has it for this key: it was probably retired, so "
        f"these answers cannot be rechecked. They stay in the cache; out.llm.compare(old) compares another model's "
        f"answers with them. The provider said: {error}"
    )


def _check_question(
    side: AnswerSide, rows: Sequence[int], frame: Any, kind: Any, prompt: str | None, given: Mapping[str, Any]
) -> None:
    """Check that exactly the question of an earlier kernel is asked again.

    With another setting, or a simulator with other answers, the answers would differ without any drift. So the calls
    about to be made must find the stored answers.

    Raises:
        UsageError: If they find none. Nothing was sent.
    """
    run = side.source.run
    assert isinstance(run, RegisteredRun)
    if "pack" in run.header["options"] or (side.row[rows] < 0).all():
        return
    table = table_of(frame)
    assert table is not None
    first = [at for at, row in enumerate(rows[:_LOOKED_AT]) if side.row[row] >= 0]
    kept = run.replies_of([int(side.row[rows[at]]) for at in first])
    if not kept:  # deleted or never stored: nothing to compare with
        return
    salt = run.header["options"].get("salt")
    asked = {**given} if salt is None else {**given, "salt": salt}
    ask = accessor_of(table.slice(range(min(table.total, _LOOKED_AT))).data, "recheck")
    if not ask.estimate(kind, prompt, **asked).cached:
        simulated = " The simulator of this kernel may have other answers." if run.header["simulated"] else ""
        raise UsageError(
            f"The cache has answers of the run {run.id!r}, but not to the question that would be asked now: a "
            f"setting differs from the run's.{simulated} Nothing was sent."
        )


def _drawn(side: AnswerSide, n: int) -> list[int]:
    """Draw answered rows uniformly, equal rows once. Corrected answers are excluded: they are not the model's."""
    _, first = np.unique(side.content, return_index=True)
    there = first[(side.status[first] >= 0) & (side.status[first] <= 1)].tolist()
    if not there:
        raise UsageError("No row of this frame has an answer of a run, so there is nothing to ask again.")
    # The first rows of a fixed order, so that a larger recheck includes the rows of a smaller one.
    return random.Random(len(there)).sample(there, len(there))[:n]


def asked_again(
    side: AnswerSide, response_format: Any, method: str, options: Mapping[str, Any]
) -> tuple[Any, str | None, dict[str, Any]]:
    """Return the type, prompt and options for asking rows of a side again. The type is None for text.

    Args:
        side: The side whose first run is repeated.
        response_format: The type given by the caller. None for the run's own.
        method: Name of the method that asks, for errors.
        options: Options given by the caller.

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
        if run.header.get("examples") is not None and "examples" not in options:  # the registry holds no text of rows
            raise PllmError(
                f"The run {run.id!r} was shown examples and is no longer in memory: pass the same ones as examples=, "
                f"or run its cell again, which sends nothing, and then out.llm.{method}(). Nothing was sent."
            )
        given = {name: value for name, value in run.header["options"].items() if name in taken}
        given |= {name: options[name] for name in ("examples",) if name in options}
        kind = None if is_text else response_format
        return kind, prompt, read_options(kind, given) | {"model": run.header["model"]}
    assert isinstance(run, LiveRun)
    if run.execution.decider is not None:
        raise _decided(method)
    given = {name: value for name, value in given_options(run.spec.options).items() if name in taken}
    kind = None if run.spec.output is None else run.spec.output.kind if response_format is None else response_format
    return kind, prompt, read_options(kind, given)


def _decided(method: str) -> PllmError:
    return PllmError(f"{method} asks single answers again, and this run decided among several. Nothing was sent.")


def _check_type(run: LiveRun | RegisteredRun, response_format: Any) -> None:
    """Check that a type is the one of the run.

    Raises:
        UsageError: If it is a different type. Nothing was sent.
    """
    asked = OutputType.of(response_format)
    if isinstance(run, RegisteredRun):
        before = run.header["schema"]
    else:
        before = None if run.spec.output is None else run.spec.output.json_schema
    if before is None or orjson.dumps(before, default=repr) != orjson.dumps(asked.json_schema, default=repr):
        raise UsageError(
            f"recheck repeats the question of the run {run.id!r}, and {asked.name} is not its type. Pass that type, "
            f"or none while the run is in memory. Nothing was sent."
        )


def _served(run: Any, rows: Sequence[int]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the served model names and fingerprints of some rows of a run, from the replies that are kept."""
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
