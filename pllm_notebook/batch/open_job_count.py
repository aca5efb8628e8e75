"""A look whether jobs are open, without opening the journal: for a kernel that may never need it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from urllib.parse import quote

from pllm_notebook.batch.job import FINAL

__all__ = ["count_open_jobs"]


def count_open_jobs(directory: str) -> int:
    """Count the open jobs in a cache directory; 0 where there is no journal, or none that can be read now.

    Changes nothing, creates nothing and never waits; what is wrong with the journal is reported when it is opened.
    """
    path = os.path.join(directory, "jobs.db")
    if not os.path.exists(path):
        return 0
    marks = ",".join("?" * len(FINAL))
    try:
        address = f"file:{quote(os.path.abspath(path))}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=0.5)) as connection:
            found = connection.execute(f"SELECT count(*) FROM jobs WHERE state NOT IN ({marks})", tuple(FINAL))
            return int(found.fetchone()[0])
    except sqlite3.Error:
        return 0
