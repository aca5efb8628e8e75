"""The entry point of a resumable program: `with pllm.resume_directory(...) as session:`."""

from __future__ import annotations

import os
from typing import Any, Unpack

from pllm_notebook.exceptions import UsageError
from pllm_notebook.options import check, fields_of
from pllm_notebook.sessions.llm_identity import LLMIdentity
from pllm_notebook.sessions.minor_tweaks import MinorTweaks, apply_tweaks
from pllm_notebook.sessions.session import Session
from pllm_notebook.sessions.session_config import SessionConfig
from pllm_notebook.sessions.session_option_types import SessionOptions
from pllm_notebook.sessions.session_store import SessionStore
from pllm_notebook.signatures import shows

__all__ = ["resume_directory"]


@shows(fields_of(SessionConfig))
def resume_directory(
    directory: str | os.PathLike[str],
    *,
    dashboard: bool = False,
    llm: str | LLMIdentity | None = None,
    tweaks: MinorTweaks | None = None,
    save_input: bool | None = None,
    **options: Unpack[SessionOptions],
) -> Session:
    """Open a session in a directory, with the answers, jobs and failures of earlier runs of the program.

    Use the session in a `with` or `async with` block; it saves its state when the block ends. A program works unchanged
    under every strategy, and all strategies share the stored answers.

    Args:
        directory: Directory of answers, jobs and failures, in the format of the notebook's cache.
        dashboard: Whether to show the session's dashboard.
        llm: Alias of *model*.
        tweaks: Some of these arguments under other names (see `MinorTweaks`).
        save_input: None or True; documents are always kept (`session.documents`).
        **options: See below.

    Raises:
        UsageError: For a value out of range. Nothing was sent.
        StoreError: If the directory cannot be opened. Nothing was sent.
    """
    if save_input is False:
        raise UsageError("save_input=False is not supported: documents are always kept. Nothing was sent.")
    given: dict[str, Any] = {**options}
    check(fields_of(SessionConfig), given, allow_none=False)
    if given.get("model") is not None and llm is not None:
        raise UsageError("model and llm are the same argument: pass only one. Nothing was sent.")
    if llm is not None:
        given["model"] = llm
    config = SessionConfig(**apply_tweaks(tweaks, given))
    session = Session(SessionStore(directory), config)
    if dashboard:
        session.dashboard()
    return session
