"""Second answers: a call that was sent live while its job went on may be answered twice.

The first is in the cache and stays there. The second was paid for too, so it is not thrown away: it lies in a
file beside the job's others, for a comparison by hand.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

import orjson

from pllm_notebook.batch import Job, Journal, custom_id

__all__ = ["save_duplicates"]


def save_duplicates(journal: Journal, job: Job, came: Literal["live", "batch"], answers: Mapping[str, bytes]) -> None:
    """Append answers to a job's file of second ones, `jobs/ID.second.jsonl` of the cache directory. Blocks.

    After a crash a line may be there twice.

    Args:
        journal: Whose folder it is.
        job: The job.
        came: By which way they came.
        answers: Key to the response's body.
    """
    if not answers:
        return
    path = journal.spool.folder / f"{job.id}.second.jsonl"
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_APPEND, 0o600), "ab") as file:
        for key, body in answers.items():
            text = body.decode("utf-8", "replace")
            file.write(orjson.dumps({"custom_id": custom_id(key), "came": came, "body": text}) + b"\n")
