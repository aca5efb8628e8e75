"""The noise of asking the same question twice, read from stored samples and rechecks. Sends nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import LiveRun
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.provenance import Source
from pllm_notebook.frames.recorded_answers import columns_in
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.samples import sample_frame, samples_of
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.field_changes import SamplingNoise, coded
from pllm_notebook.lab.recheck_pairs import pairs_of

__all__ = ["noise_of"]

_MOST_ROWS = 1_000
"""Maximum number of rows whose samples are read, spread evenly over the run: enough for a share to within 3 points."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """Counts of pairs of answers of one model to one row: the field, pairs, differing pairs, and origin."""

    field: str
    pairs: int
    differing: int
    origin: str


def noise_of(sources: Sequence[Source], fields: Sequence[str], like: Table) -> dict[str, SamplingNoise]:
    """Return the share of pairs of answers by one model to one row whose values differ, for each field.

    Pairs come from runs with several samples and from rechecks of their question. Fields without pairs are left out.
    """
    found: dict[str, list[_Counted]] = defaultdict(list)
    for source in {source.run.id: source for source in sources}.values():
        for counted in (*_of_samples(source, fields, like), *_of_rechecks(source, fields)):
            found[counted.field].append(counted)
    made = {}
    for field in fields:
        pairs = sum(one.pairs for one in found[field])
        if pairs:
            share = sum(one.differing for one in found[field]) / pairs
            origins = dict.fromkeys(one.origin for one in found[field] if one.pairs)
            made[field] = SamplingNoise(share, pairs, ", ".join(origins))
    return made


def _of_rechecks(source: Source, fields: Sequence[str]) -> Iterator[_Counted]:
    for day, values in pairs_of(source):
        for field in fields:
            first, second = values.get(field, ((), ()))
            codes, others, _ = coded(first, second)
            yield _Counted(field, len(codes), int(np.count_nonzero(codes != others)), f"recheck of {day}")


def _of_samples(source: Source, fields: Sequence[str], like: Table) -> Iterator[_Counted]:
    samples = _samples(source, like)
    if samples is None:
        return
    columns, prefix = list(samples.names), _prefix(source)
    wanted = {field: prefix + field for field in fields if columns.count(prefix + field) == 1}
    data = samples.column_data(["position", "model", "failure", *wanted.values()])
    position, model = data.values[0], data.values[1]
    answered = data.missing[2]  # no failure
    for at, field in enumerate(wanted, 3):
        codes, _, _ = coded(data.values[at], ())
        answers: dict[tuple[Any, Any], list[int]] = defaultdict(list)
        for line in range(samples.total):
            if answered[line] and not data.missing[at][line]:
                answers[position[line], model[line]].append(int(codes[line]))
        pairs = [pair for own in answers.values() for pair in combinations(own, 2)]
        yield _Counted(field, len(pairs), sum(one != other for one, other in pairs), "samples")


def _samples(source: Source, like: Table) -> Table | None:
    """Return the samples of some rows of a run, or None if it has one answer a row or they are lost."""
    record, run = source.record, source.run
    if record is None or record.samples is None or record.samples.keys.shape[1] < 2:
        return None
    rows = np.unique(np.linspace(0, len(record) - 1, min(len(record), _MOST_ROWS)).astype(np.int64)).tolist()
    places = [(row, row, row) for row in rows]
    try:
        if isinstance(run, LiveRun):
            return table_of(samples_of(run, places, like.frame_library))
        assert isinstance(run, RegisteredRun)
        ensemble = run.header["ensemble"]
        members = [(model, sample) for model, sample, _ in ensemble["members"]]
        sampled = run.read_answers().sampled(places)
        return table_of(sample_frame(columns_in(ensemble["columns"]), members, sampled, like.frame_library))
    except PllmError:  # answers that are not values
        return None


def _prefix(source: Source) -> str:
    run = source.run
    return run.spec.options.prefix if isinstance(run, LiveRun) else str(run.header["options"].get("prefix", ""))
