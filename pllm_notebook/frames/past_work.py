"""`pllm.errors`, `pllm.jobs`, `pllm.import_results` and `pllm.run`: access to earlier calls of any kernel."""

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
        of: A run, or a frame made by a run of this session. A program's session or the path of a directory, for the
            failed calls stored there. None for the newest run, or, in a new kernel or with any of the other arguments,
            for the failed calls stored in the cache, newest first.
        model: Only stored failures of this model (`openai:gpt-6-luna`, or `gpt-6-luna` for any provider).
        kind: Only stored failures of this kind (`bad_request`; see docs/errors.md).
        since: Only stored failures since this time, or within this timedelta.

    Returns:
        The same as `df.llm.errors`, or a list of dictionaries for a run over items. For stored failures, a frame with
        one line per call: when (UTC), model, kind, status, field, message, asked, position, label, prompt, attempts,
        cost_usd (NA if unknown), request_id, run, raw, body (of the request). Calls that have been answered since are
        not included.
    """
    return errors_of(of, model=model, kind=kind, since=since)


def jobs(of: Any = None) -> Jobs:
    """Return the batch jobs of a cache directory, of any provider and any kernel. Sends nothing.

    Args:
        of: A program's session, or the path of a directory. None for the current cache directory.

    Returns:
        A handle that is read again at each use. It displays as a table (with buttons, if widgets are available), and
        has `.frame`, `refresh`, `fetch`, `cancel`, `resubmit`, `send_live`, `recreate` and `abandon`.
    """
    directory = directory_of(of)
    if of is not None and directory is None:
        raise UsageError(f"pllm.jobs takes a session, or the path of a directory, not {type(of).__name__}.")
    return Jobs(cache_dir=directory, show=partial(show_in_cell, "jobs"))


def import_results(path: str | os.PathLike[str], model: str | None = None) -> Imported:
    """Import a results file that was downloaded from a provider's batch into the cache. Sends nothing.

    Args:
        path: A file from OpenAI, Anthropic or Google. The format is recognized by its lines.
        model: The requested model. None to take it from the journal or the file.

    Returns:
        Counts of imported, known and unknown answers, and of failures.
    """
    return take_in(commands(), path, model)


def run(run_id: str) -> Handle:
    """Return the run with this id: live if this kernel has it in memory, otherwise as recorded. Sends nothing.

    Args:
        run_id: The id shown by `df.attrs["pllm_run"]` and `pllm.runs()`.

    Returns:
        A `Run`, or a recorded run with the same views: `to_frame()`, `errors`, `usage`, `samples`.

    Raises:
        UsageError: If *run_id* is not a string.
        PllmError: If the cache directory has no such run.
    """
    return open_run(run_id)
