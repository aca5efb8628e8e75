"""Waves of lines: lines that differ only in their output limit are sent in separate waves.

A cache key does not include the output limit, because a complete reply satisfies every limit that it fits. If two such
lines were in flight at once, one would receive the other's reply, truncated at the other's limit.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence

import numpy as np
import orjson

from pllm_notebook.execution import OUTPUT_LIMIT
from pllm_notebook.request_files.line_formats import RequestFileLine
from pllm_notebook.request_files.request_index import LineGroup

__all__ = ["split_into_waves"]


def split_into_waves(groups: Sequence[LineGroup], line: Callable[[int], RequestFileLine]) -> list[LineGroup]:
    """Split the groups of one model into waves, so that no two groups of a wave share a cache key.

    Args:
        groups: The groups of one model, each with its own output limit.
        line: Reads a line.

    Returns:
        The groups in the order of their waves; later ones have `wave` above 0.
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
            # An equal line joins the wave of its own group; one with another limit waits for that wave.
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
