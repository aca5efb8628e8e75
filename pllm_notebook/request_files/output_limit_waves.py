"""Lines that differ in nothing but how long their reply may be: they are asked one after the other.

An answer's key leaves the limit out, since a whole reply serves every limit that it fits. On the wire at the same
time, one line would be handed the other's reply, cut off where the other's limit is.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence

import numpy as np
import orjson

from pllm_notebook.execution.cache_key import OUTPUT_LIMIT
from pllm_notebook.request_files.groups import LineGroup
from pllm_notebook.request_files.line_formats import RequestFileLine

__all__ = ["split_into_waves"]


def split_into_waves(groups: Sequence[LineGroup], line: Callable[[int], RequestFileLine]) -> list[LineGroup]:
    """Part the groups of one model so that lines of one wave share no answer.

    Args:
        groups: Those of one model, each with its own output limit.
        line: Reads a line.

    Returns:
        The groups in the order of their waves; those of a later one have `wave` above 0.
    """
    if len(groups) < 2:
        return list(groups)
    names, rows, owners = array("Q"), array("q"), array("l")
    for owner, group in enumerate(groups):
        for row in group.rows:
            names.append(_name(line(row)))
            rows.append(row)
            owners.append(owner)
    order = np.lexsort((np.frombuffer(owners, np.dtype("l")), np.frombuffer(names, np.uint64)))
    waves = np.zeros(len(rows), np.int32)
    before = -1
    for at in order:
        if before >= 0 and names[before] == names[at]:
            # The same question again is of its own group's wave; one with another limit waits for that.
            waves[at] = waves[before] + (owners[before] != owners[at])
        before = at
    if not waves.any():
        return list(groups)
    parted: dict[tuple[int, int], LineGroup] = {}
    for at, row in enumerate(rows):
        wave, owner = int(waves[at]), owners[at]
        of = groups[owner]
        if (wave, owner) not in parted:
            parted[wave, owner] = LineGroup(of.target, of.output_limit, array("q"), wave)
        parted[wave, owner].rows.append(row)
    return [parted[place] for place in sorted(parted)]


def _name(line: RequestFileLine) -> int:
    assert isinstance(line.body, dict)
    body = {name: value for name, value in line.body.items() if name not in OUTPUT_LIMIT and name != "model"}
    config = body.get("generationConfig")
    if isinstance(config, dict):
        body["generationConfig"] = {name: value for name, value in config.items() if name not in OUTPUT_LIMIT}
    return int.from_bytes(hashlib.blake2b(orjson.dumps(body), digest_size=8).digest(), "big")
