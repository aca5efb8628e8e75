"""`pllm.errors`, `pllm.jobs`, `pllm.import_results` and `pllm.run`: what earlier calls left behind, of any kernel."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pllm_notebook.display_registry import show_in_cell
from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.error_table import directory_of, errors_of
from pllm_notebook.frames.job_table import Jobs
from pllm_notebook.frames.runs import Handle, open_run
from pllm_notebook.job_commands import Imported, commands
from pllm_notebook.job_commands import import_results as take_in

__all__ = ["errors", "import_results", "jobs", "run"]


def errors(
    of: Any = None, *, model: str | None = None, kind: str | None = None, since: datetime | timedelta | None = None
) -> Any:
    """Return failed rows. Sends nothing.

    Args:
        of: A run, or a frame that a run of this session made. A session of a program, or the path of a directory: the
            failed calls that are kept there. None: the newest run; in a new kernel, and with any
            of the other arguments, the failed calls that the cache has kept, newest first.
        model: Kept ones of this model alone (`openai:gpt-6-luna`, or `gpt-6-luna` from whatever provider).
        kind: Kept ones of this kind alone (`bad_request`; see docs/errors.md).
        since: Kept ones from this moment on, or of the last so many hours (a timedelta).

    Returns:
        What `df.llm.errors` has, for a run of items a list of dictionaries. Of kept failures a frame, one line a
        call: when (UTC), model, kind, status, field, message, asked, position, label, prompt, attempts, cost_usd (NA
        for unknown), request_id, run, raw, body (of the request). A call that was answered since is not in it.
    """
    return errors_of(of, model=model, kind=kind, since=since)


def jobs(of: Any = None) -> Jobs:
    """Return the batch jobs of a cache directory, of any provider and any kernel. Sends nothing.

    Args:
        of: A session of a program, or the path of a directory; None for the cache directory of the moment.

    Returns:
        A handle that reads again at each use: shown, it is a table (with buttons, where widgets are); `.frame`,
        `refresh`, `fetch`, `cancel`, `resubmit`, `send_live`, `recreate`, `abandon`.
    """
    directory = directory_of(of)
    if of is not None and directory is None:
        raise UsageError(f"pllm.jobs takes a session, or the path of a directory, not {type(of).__name__}.")
    return Jobs(cache_dir=directory, show=partial(show_in_cell, "jobs"))


def import_results(path: str | os.PathLike[str], model: str | None = None) -> Imported:
    """Take a results file into the cache that was downloaded from a provider's batch. Sends nothing.

    Args:
        path: OpenAI's, Anthropic's or Google's; which one follows from its lines.
        model: The model as it was asked, None for what the journal or the file says.

    Returns:
        How many answers were taken in, were known, are unknown here, and what failed.
    """
    return take_in(commands(), path, model)


def run(run_id: str) -> Handle:
    """Return the run with this id: live if this kernel holds it, else as recorded. Sends nothing.

    Args:
        run_id: As `df.attrs["pllm_run"]` and `pllm.runs()` show it.

    Returns:
        A `Run`, or a recorded run with the same views: `to_frame()`, `errors`, `usage`, `samples`.

    Raises:
        UsageError: If *run_id* is not a string.
        PllmError: If the cache directory has no such run.
    """
    return open_run(run_id)
