"""Open a request file for processing: read and check everything before anything is sent or written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import options_for, store_for
from pllm_notebook.options import Options, fields_of
from pllm_notebook.prices import rate_of
from pllm_notebook.request_files.chunks import ChunkMaker
from pllm_notebook.request_files.endpoints import EndpointResolver
from pllm_notebook.request_files.file_run import FileRun
from pllm_notebook.request_files.request_index import RequestIndex, index_of
from pllm_notebook.request_files.results_file import ResultsFile, new_path, require_file

__all__ = ["open_run"]

# A line is a complete request: it is sent unchanged and answered once, regardless of the options configured for rows.
_PLAIN: Mapping[str, Any] = {
    **{name: None for name, each in fields_of(Options).items() if each.keyed and name != "model"},
    **dict.fromkeys(("samples", "models", "decide", "judge", "run_tools"), None),
    "mode": "async",
    "errors": "coerce",
    "progress": False,
    "wait": True,
}


def open_run(
    *,
    requests: str,
    results: str | None,
    addresses: EndpointResolver,
    rates: tuple[float | None, float | None],
    options: Mapping[str, Any],
    cache_dir: str | None,
    retry_errors: bool,
    progress: bool,
    stopped: Callable[[], bool] = lambda: False,
) -> FileRun:
    """Read the request file, and open its results file and store (see `OAIApiFromFileConfig`). Sends nothing.

    Args:
        requests: Path of the request file.
        results: Path of the results file, None for a new one.
        addresses: Resolves the model of each line.
        rates: Requests and tokens per minute, each None for no limit.
        options: Options of the runs that differ from the defaults.
        cache_dir: Directory of the cache, None for the configured one.
        retry_errors: Whether lines with an error are sent again.
        progress: Whether to show progress.
        stopped: Polled while the file is read; True stops.

    Raises:
        UsageError: For invalid options, and for a path that is not a file. Nothing was sent.
        FileError: If a file cannot be read or written. Nothing was sent.
        RunInterrupted: If *stopped* returned True. Nothing was sent.
    """
    options = {**_PLAIN, **options}
    resolved = options_for(options)
    # This comes first, because `ResultsFile` creates an empty file.
    require_file(requests, "each request is read again when it is sent")
    if results is not None and os.path.exists(results) and os.path.samefile(requests, results):
        raise UsageError(f"Results cannot go into {requests} itself. Use another save_filepath. Nothing was sent.")
    with ExitStack() as opened:
        file = ResultsFile(results or new_path(requests), retry_errors=retry_errors)
        opened.callback(file.close)
        index = index_of(requests, file.path, addresses, stopped)
        opened.callback(index.close)
        _check(index, resolved)
        label = os.path.basename(requests)
        maker = ChunkMaker(index, options, rates, cache_dir, label)
        store = store_for(resolved, cache_dir)
        run = FileRun(index, file, store, maker, progress=progress)
        opened.pop_all()
    return run


def _check(index: RequestIndex, options: Options) -> None:
    """Check that the file's models can be used under *options*, before anything is sent."""
    targets = [group.target for group in index.groups]
    if options.max_cost_usd is not None:
        for target in targets:
            if target.price_provider is None or rate_of(target.price_provider, target.price_model) is None:
                raise UsageError(
                    f"Cannot enforce max_cost_usd={options.max_cost_usd:g}: no price is known for {target.label}. "
                    f"Remove the limit, or the lines for this model. Nothing was sent."
                )
    missing_key = [target.missing_key for target in targets if target.missing_key is not None]
    if missing_key and len(missing_key) == len(targets) and options.cache != "only":
        raise missing_key[0]
