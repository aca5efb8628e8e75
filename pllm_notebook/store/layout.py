"""Where the files of a cache directory lie.

diskcache takes every file in its directory, and below it, that it does not know for rubbish: `Cache.check(fix=True)`
deletes them. So the answers' database is in a folder of its own, alone; the journal of batch jobs, the failures, the
limits and the locks are beside that folder. Earlier versions kept the database among them.
"""

from __future__ import annotations

import os

__all__ = ["DATABASE", "FOLDER", "OLD_DATABASE", "database_in"]

FOLDER = "answers"
OLD_DATABASE = "cache.db"
DATABASE = os.path.join(FOLDER, OLD_DATABASE)
"""Names below the cache directory."""


def database_in(directory: str) -> str | None:
    """Return the path of the database to read in *directory*, of this or an earlier layout; None for none."""
    for name in (DATABASE, OLD_DATABASE):
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            return path
    return None
