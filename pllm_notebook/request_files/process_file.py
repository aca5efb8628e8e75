"""Process a request file into a results file: any number of lines, of any provider.

    process_api_requests_from_file_sync(OAIApiFromFileConfig(requests_filepath="requests.jsonl", client="openai"))

A line that is in the cache is not sent. An interrupted file is resumed: its results show which lines are done.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from pllm_notebook.callers import caller
from pllm_notebook.credentials import Key
from pllm_notebook.engine import engine
from pllm_notebook.exceptions import PllmError
from pllm_notebook.options import CacheUse
from pllm_notebook.request_files.argument_aliases import one_of
from pllm_notebook.request_files.endpoints import EndpointResolver
from pllm_notebook.request_files.file_run import FileRun
from pllm_notebook.request_files.file_status import FileStatus
from pllm_notebook.request_files.open_file_run import open_run
from pllm_notebook.settings import current

__all__ = [
    "OAIApiFromFileConfig",
    "process_api_requests_from_file",
    "process_api_requests_from_file_sync",
]

logger = logging.getLogger("pllm_notebook")


class OAIApiFromFileConfig(BaseModel):
    """What a request file is processed with.

    Attributes:
        requests_filepath: JSON lines: OpenAI's or Anthropic's batch lines, Google's, bare bodies with `model`,
            `messages` and perhaps `metadata` (the OpenAI cookbook's), in any mix.
        save_filepath: Where results go; a file that is there is gone on with. None for a new one beside the requests,
            whose name no other run has.
        client: Whom lines of its format are for whose model names no provider: "openai", "anthropic", "google", a
            server or client that is configured; "sim:openai" and its like for a rehearsal of all lines. None for the
            maker of each line's format.
        model: For lines that name none.
        api_key: Of the client; None for the environment's. It is in no representation, no error and no file.
        request_url: The endpoint of bare bodies, and another server of the OpenAI format in place of the client. None
            for the provider's own.
        max_requests_per_minute: A ceiling of your own, for all models of one provider together. None to find out by
            itself what the provider allows.
        max_tokens_per_minute: The same, of input and output together.
        max_attempts: Times that a line is sent before its error is its result; refusals by a rate limit count while
            the provider lets no other line through.
        max_cost_usd: Ceiling for the whole file, in US dollars; what it leaves unsent has no result, and is for the
            next time.
        cache: As for `df.llm.parse`: "use", "refresh", "only", "off". None: "use", whatever is configured.
        cache_dir: Where answers are kept, None for the configured place.
        retry_errors: Whether lines of an earlier results file that have an error are asked again.
        logging_level: Of this package's log.
        token_encoding_name: Accepted and not used: no tokenizer is loaded, tokens are estimated by their bytes and
            corrected by what the provider counts.
        progress: Whether to show progress.
    """

    model_config = ConfigDict(extra="forbid")

    requests_filepath: str
    save_filepath: str | None = None
    client: str | None = None
    model: str | None = None
    api_key: SecretStr | None = None
    request_url: str | None = None
    max_requests_per_minute: float | None = Field(default=None, gt=0)
    max_tokens_per_minute: float | None = Field(default=None, gt=0)
    max_attempts: int = Field(default=5, ge=1)
    max_cost_usd: float | None = Field(default=None, ge=0)
    cache: CacheUse | None = None
    cache_dir: str | None = None
    retry_errors: bool = False
    logging_level: int | str | None = None
    token_encoding_name: str | None = None
    progress: bool = True

    @field_validator("requests_filepath", "save_filepath", "cache_dir", mode="before")
    @classmethod
    def _as_text(cls, path: Any) -> Any:
        return os.fspath(path) if isinstance(path, os.PathLike) else path

    @field_validator("logging_level")
    @classmethod
    def _check_level(cls, level: int | str | None) -> int | str | None:
        if level is not None:
            logging.Handler(level)  # raises for an unknown level
        return level

    def addresses(self) -> EndpointResolver:
        """Return the resolver of each line's model.

        Raises:
            UsageError: For an unknown client, model or address. Nothing was sent.
        """
        key = None if self.api_key is None else Key(self.api_key.get_secret_value())
        return EndpointResolver(self.client, self.model, self.request_url, key)

    def prepared(self, stopped: Callable[[], bool] = lambda: False) -> FileRun:
        """Read the request file, and open what is needed to process it. Sends nothing.

        Args:
            stopped: Polled while the file is read; True stops.
        """
        if self.logging_level is not None:
            logger.setLevel(self.logging_level)
        return open_run(
            requests=self.requests_filepath,
            results=self.save_filepath,
            addresses=self.addresses(),
            rates=(self.max_requests_per_minute, self.max_tokens_per_minute),
            options={"max_retries": self.max_attempts - 1, "max_cost_usd": self.max_cost_usd, "cache": self.cache},
            cache_dir=self.cache_dir,
            retry_errors=self.retry_errors,
            progress=self.progress,
            stopped=stopped,
        )


async def process_api_requests_from_file(
    config: OAIApiFromFileConfig | None = None, *, api_cfg: OAIApiFromFileConfig | None = None
) -> FileStatus:
    """Send every line of a request file, and write one result line for each. Cached lines are not sent.

    Results are appended as they arrive, complete lines only, and are sorted in the order of the requests at the end.
    Cancelling the task keeps all results; the same call resumes from there.

    Args:
        config: The file and its options.
        api_cfg: The same, by its other name.

    Returns:
        Counts of the lines by result, and the path of the results.

    Raises:
        UsageError: For an invalid configuration. Nothing was sent.
        StoreError: If the cache cannot store answers; those that arrived are in the results file.
        OSError: If a file cannot be read or written.
        RunInterrupted: If the run was stopped.
    """
    called_by = caller()
    run = await _prepare_in_thread(one_of(config=config, api_cfg=api_cfg))
    run.begin()
    await run.until_ended()
    return run.result(called_by)


def process_api_requests_from_file_sync(
    config: OAIApiFromFileConfig | None = None, *, api_cfg: OAIApiFromFileConfig | None = None
) -> FileStatus:
    """Run `process_api_requests_from_file` without await, in a cell or script.

    Raises:
        KeyboardInterrupt: After an interrupt, which keeps all results.
    """
    called_by = caller()
    asked: OAIApiFromFileConfig = one_of(config=config, api_cfg=api_cfg)
    engine(current().loop)
    run = asked.prepared()
    run.begin()
    run.wait()
    return run.result(called_by)


async def _prepare_in_thread(config: OAIApiFromFileConfig) -> FileRun:
    """Read the file in a thread, so that the caller's loop is not blocked."""
    engine(current().loop)  # here, since a notebook's loop can only be found from its own thread
    stop = threading.Event()
    work = asyncio.get_running_loop().run_in_executor(None, config.prepared, stop.is_set)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        with suppress(PllmError, OSError):
            (await work).abandon()
        raise
