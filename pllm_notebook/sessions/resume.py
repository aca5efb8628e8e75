"""Where a program that asks begins: `with pllm.resume_directory(...) as session:`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from pllm_notebook.exceptions import UsageError
from pllm_notebook.providers.registry import canonical
from pllm_notebook.sessions.llm_identity import LLMIdentity
from pllm_notebook.sessions.minor_tweaks import MinorTweaks, apply_tweaks
from pllm_notebook.sessions.session import Session
from pllm_notebook.sessions.session_config import BATCH_FROM, SessionConfig
from pllm_notebook.sessions.session_store import SessionStore
from pllm_notebook.sessions.throttler import Throttler

__all__ = ["resume_directory"]

# In place of a provider: each model's own.
_EVERY = "multi"


def resume_directory(
    directory: str | os.PathLike[str],
    *,
    strategy: Literal["sync", "async", "concurrent", "batch", "hybrid"] = "async",
    provider: str | None = None,
    model: str | LLMIdentity | None = None,
    ignore_cache: bool = False,
    rewrite_cache: bool = True,
    throttler: Throttler | None = None,
    dry_run: bool = False,
    confirm: bool = True,
    wait: bool = False,
    errors: Literal["raise", "coerce"] = "raise",
    log_level: int | str | None = None,
    batch_from: int = BATCH_FROM,
    max_cost_usd: float | None = None,
    max_concurrent: int | None = None,
    hash_by: Sequence[str] | None = None,
    dashboard: bool = False,
    llm: str | LLMIdentity | None = None,
    tweaks: MinorTweaks | None = None,
    save_input: bool | None = None,
) -> Session:
    """Return a session for a program that asks, in the state in which its directory is.

    A context manager, also of `async with`: it notes what it must remember at the end of the block. The same program
    goes under each strategy, and what one has asked no other asks again.

    Args:
        directory: Where answers, jobs and failures are kept, in the form of the notebook's cache.
        strategy: "async" sends each call as it is asked, and waits where a value is needed. "sync" sends one at a
            time. "batch" gathers calls until a value is needed, submits them as batch jobs and ends the block there;
            run again, the program goes on. "hybrid" submits what is many, and sends live what the program waits for
            alone. "concurrent" is "async".
        provider: Of models without one, None or "multi" for the one that a model's name shows.
        model: The model that is asked, None for the provider's cheap current model, else for the configured one.
        ignore_cache: Whether every call is asked once more, whatever is stored.
        rewrite_cache: Whether what comes then replaces what is stored; else it is stored nowhere.
        throttler: A pace of the caller's own, None for none.
        dry_run: Whether the block ends at the first value that is not there, with the calls, tokens and cost of what
            would be asked next. Nothing is sent.
        confirm: Whether a person is asked before batch jobs are submitted.
        wait: Whether to wait for batch jobs, rather than end the block.
        errors: "raise" ends the program at the first call that failed: where it is asked in "sync", where its value
            is needed otherwise. "coerce" logs failures and goes on; `resolve_all` then gives an `ErrorResponse` in
            the value's place, `reply.failed` tells, and `resolve` raises it.
        log_level: Of the logger "pllm_notebook" within the block, None to leave it.
        batch_from: With "hybrid": as many calls at one point go by batch.
        max_cost_usd: Ceiling, in US dollars, for all that this run of the program sends, live and by batch; what was
            stored before, or waits in a job of an earlier run, is not counted.
        max_concurrent: Calls that the session has on their way at once, None for as many as the provider allows.
            Batch jobs are not counted.
        hash_by: Of every call that names none itself (see `Agent.ask_llm`).
        dashboard: Whether to show the session's dashboard.
        llm: *model* by its other name.
        tweaks: Some of these arguments by other names (see `MinorTweaks`).
        save_input: Documents are kept in any case (`session.documents`): None or True.

    Raises:
        UsageError: For a value outside its range. Nothing was sent.
        StoreError: If the directory cannot be opened. Nothing was sent.
    """
    if save_input is False:
        raise UsageError("save_input=False is not carried out: documents are always kept. Nothing was sent.")
    if model is not None and llm is not None:
        raise UsageError("model and llm are one argument: give one of them. Nothing was sent.")
    said = apply_tweaks(tweaks, confirm=confirm, wait=wait, errors=errors, max_concurrent=max_concurrent)
    terms = SessionConfig(
        strategy="async" if strategy == "concurrent" else strategy,
        provider=None if provider == _EVERY or provider is None else canonical(provider),
        model=llm if model is None else model,
        ignore_cache=ignore_cache,
        rewrite_cache=rewrite_cache,
        throttler=throttler,
        dry_run=dry_run,
        log_level=log_level,
        batch_from=batch_from,
        max_cost_usd=max_cost_usd,
        hash_by=hash_by,
        **said,
    )
    session = Session(SessionStore(directory), terms)
    if dashboard:
        session.dashboard()
    return session
