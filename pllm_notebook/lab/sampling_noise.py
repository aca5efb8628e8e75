"""What asking the same question twice changes: read from the samples that a run has stored. Sends nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import Run
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.provenance import Source
from pllm_notebook.frames.recorded_answers import columns_in
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.samples import sample_frame, samples_of
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.field_changes import coded

__all__ = ["noise_of"]

_MOST_ROWS = 1_000
"""Rows whose samples are read, evenly over the run: enough for a share to within 3 points."""


def noise_of(sources: Sequence[Source], fields: Sequence[str], like: Table) -> dict[str, float]:
    """Return for each field the share of pairs of samples, of one model and row, whose values differ.

    Fields that no run of *sources* has several samples of are left out.
    """
    differing: dict[str, int] = defaultdict(int)
    pairs: dict[str, int] = defaultdict(int)
    for source in {source.run.id: source for source in sources}.values():
        samples = _samples(source, like)
        if samples is None:
            continue
        columns, prefix = list(samples.names), _prefix(source)
        wanted = {field: prefix + field for field in fields if columns.count(prefix + field) == 1}
        data = samples.column_data(["position", "model", "failure", *wanted.values()])
        position, model = data.values[0], data.values[1]
        failed = data.missing[2]
        for at, field in enumerate(wanted, 3):
            codes, _, _ = coded(data.values[at], ())
            answers: dict[tuple[Any, Any], list[int]] = defaultdict(list)
            for line in range(samples.total):
                if failed[line] and (not data.missing[at][line]):
                    answers[position[line], model[line]].append(int(codes[line]))
            for own in answers.values():
                differing[field] += sum(a != b for a, b in combinations(own, 2))
                pairs[field] += len(own) * (len(own) - 1) // 2
    return {field: differing[field] / pairs[field] for field in fields if pairs[field]}


def _samples(source: Source, like: Table) -> Table | None:
    """Return the samples of some rows of a run, None where it has one answer a row, or has lost them."""
    record, run = source.record, source.run
    if record is None or record.samples is None or record.samples.keys.shape[1] < 2:
        return None
    rows = np.unique(np.linspace(0, len(record) - 1, min(len(record), _MOST_ROWS)).astype(np.int64)).tolist()
    places = [(row, row, row) for row in rows]
    try:
        if isinstance(run, Run):
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
    return run.ask.options.prefix if isinstance(run, Run) else str(run.header["options"].get("prefix", ""))
