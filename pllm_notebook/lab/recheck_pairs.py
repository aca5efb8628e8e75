"""Pairs of answers that a recheck has stored: the same question twice on one day. Reading them sends nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.exceptions import PllmError
from pllm_notebook.frames.kept_calibrations import identity_of_run
from pllm_notebook.frames.provenance import Source
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.stored_labels import answer_columns

__all__ = ["AnswerPairs", "pairs_of", "recheck_salt", "salt_of"]

_MOST_RUNS = 200
"""Number of runs searched for rechecks, newest first."""
_SALT = re.compile(r"recheck (?P<own>.*?)(?P<day>\d{4}-\d\d-\d\d) (?P<time>[12])", re.DOTALL)


class AnswerPairs(NamedTuple):
    """Both answers to each row of one recheck.

    Attributes:
        day: Day of the recheck, in UTC.
        values: Maps each field to the first and the second answers of the rows that have both.
    """

    day: str
    values: dict[str, tuple[list[Any], list[Any]]]


def salt_of(run: Any) -> str:
    """Return the salt of a run's question, or "" for none."""
    salt = run.header["options"].get("salt") if isinstance(run, RegisteredRun) else run.spec.options.salt
    return str(salt or "")


def recheck_salt(own: str, day: str, time: int) -> str:
    """Return the salt for asking a question again.

    Args:
        own: The question's own salt, "" for none. Without it, a recheck of a recheck would be compared with itself.
        day: The day. Repeating the call on the same day resumes it; on another day it asks again.
        time: 1 or 2.
    """
    return f"recheck {own + ' ' if own else ''}{day} {time}"


def pairs_of(source: Source) -> Iterator[AnswerPairs]:
    """Yield the pairs of each recheck of a run's question among the newest runs of the registry."""
    question, own = identity_of_run(source.run), salt_of(source.run)
    found: dict[str, dict[str, RegisteredRun]] = defaultdict(dict)
    for run in islice(RegisteredRun.newest_first(), _MOST_RUNS):
        salt = _SALT.fullmatch(salt_of(run))
        if salt is None or salt["own"].removesuffix(" ") != own or tuple(run.header["asked"]) != source.asked:
            continue
        if run.header.get("part_of") or identity_of_run(run) != question or run.record is None:
            continue
        found[salt["day"]].setdefault(salt["time"], run)  # the newest: an interrupted one is resumed
    for day, runs in found.items():
        if len(runs) == 2:
            yield AnswerPairs(day, _pairs(runs["1"], runs["2"]))


def _pairs(first: RegisteredRun, second: RegisteredRun) -> dict[str, tuple[list[Any], list[Any]]]:
    """Return the answers of two runs for the rows that both answered, by field."""
    try:
        (content, ours), (others, theirs) = _answers(first), _answers(second)
    except PllmError:  # gone, or of a type that cannot be read back
        return {}
    _, at, other = np.intersect1d(content, others, return_indices=True)
    return {
        field: ([ours[field][line] for line in at.tolist()], [theirs[field][line] for line in other.tolist()])
        for field in ours
        if field in theirs
    }


def _answers(run: RegisteredRun) -> tuple[np.ndarray[Any, Any], dict[str, Sequence[Any]]]:
    """Return the content hash of each answered row of a run, and its values by field."""
    source = Source.of(run)
    assert source is not None
    assert run.record is not None
    answers = run.read_answers()
    values = answers.values()
    there = [at for at, value in enumerate(values) if value is not None]
    columns, _ = answers.table([values[at] for at in there])
    by_name = {column.name: own for column, own in zip(answers.columns, columns, strict=True)}
    fields: dict[str, Sequence[Any]] = {field: by_name[column.name] for field, column in answer_columns(source).items()}
    return run.record.content[there], fields
