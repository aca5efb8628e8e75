"""Process a request file into a results file: any number of lines, of any provider.

    process_api_requests_from_file_sync(OAIApiFromFileConfig(requests_filepath="requests.jsonl", client="openai"))

Cached lines are not sent. An interrupted file is resumed: its results show which lines are done.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from pllm_notebook.argument_models import ArgumentModel
from pllm_notebook.callers import caller
from pllm_notebook.credentials import Key
from pllm_notebook.engine import engine
from pllm_notebook.exceptions import PllmError, UsageError, show_in_one_line
from pllm_notebook.file_errors import file_path
from pllm_notebook.options import CacheUse
from pllm_notebook.request_files.endpoints import EndpointResolver
from pllm_notebook.request_files.file_run import FileRun
from pllm_notebook.request_files.file_status import FileStatus
from pllm_notebook.request_files.open_file_run import open_run
from pllm_notebook.settings import current

__all__ = ["OAIApiFromFileConfig", "one_of", "process_api_requests_from_file", "process_api_requests_from_file_sync"]

logger = logging.getLogger("pllm_notebook")


class OAIApiFromFileConfig(ArgumentModel):
    """The configuration of `process_api_requests_from_file`.

    Attributes:
        requests_filepath: JSON lines, in any mix: OpenAI's, Anthropic's or Google's batch lines, and bare bodies with
            `model`, `messages` and optionally `metadata` (the OpenAI cookbook's).
        save_filepath: Path of the results file. An existing one is resumed. None for a new file beside the requests,
            with a unique name.
        client: Provider for lines of its format whose model names no provider: "openai", "anthropic", "google", or a
            configured server or client; "sim:openai" and other simulators for a rehearsal of all lines. None for the
            provider of each line's format.
        model: Model for lines without one. None to require a model in each line.
        api_key: API key of the client. None for the environment's. It never appears in a repr, error or file.
        request_url: The endpoint of bare bodies, or of a server with OpenAI's format to use instead of the client.
            None for the provider's own.
        max_requests_per_minute: Your own limit, for all models of a provider together. None to learn the limit from
            the provider.
        max_tokens_per_minute: The same for tokens, input and output together.
        max_attempts: Attempts for a line before its error becomes its result. A rate-limit refusal counts only while
            the provider accepts no other line.
        max_cost_usd: Limit for one run over the file, in US dollars. None for no limit. Lines that are not sent because
            of it have no result and are left for the next run.
        cache: As for `df.llm.parse`: "use", "refresh", "only", "off". None for "use", regardless of the configuration.
        cache_dir: Directory of the cache, None for the configured one.
        retry_errors: Whether lines with an error in an existing results file are sent again.
        logging_level: Level of this package's logger, which keeps it afterwards. None to leave it unchanged.
        token_encoding_name: Accepted and ignored: no tokenizer is loaded; tokens are estimated from bytes and
            corrected by the provider's counts.
        progress: Whether to show progress.
    """

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
    def _as_text(cls, path: Any, about: ValidationInfo) -> Any:
        return None if path is None and about.field_name != "requests_filepath" else file_path(path, "a file")

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
        """Read the request file and open the files and store for processing it. Sends nothing.

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

    Results are appended as they arrive, only in complete lines. Once every line has a result, they are sorted in the
    order of the requests. Cancelling the task keeps all results. The same call resumes from there.

    Args:
        config: The file and its options.
        api_cfg: Alias of *config*.

    Returns:
        Counts of the lines by result, and the path of the results.

    Raises:
        UsageError: For an invalid configuration. Nothing was sent.
        StoreError: If the cache cannot store answers; those that arrived are in the results file.
        FileError: If a file cannot be read or written.
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
    engine(current().loop)  # here, because a notebook's loop can only be found from its own thread
    stop = threading.Event()
    work = asyncio.get_running_loop().run_in_executor(None, config.prepared, stop.is_set)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError as error:
        stop.set()
        show_in_one_line(error, "Stopped while the request file was read. Nothing was sent.")
        with suppress(PllmError, OSError):
            (await work).abandon()
        raise


def one_of(**given: Any) -> Any:
    """Return the one value that is not None.

    Args:
        **given: The names of one argument with their values.

    Raises:
        UsageError: If none or several are given. Nothing was sent.
    """
    values = [value for value in given.values() if value is not None]
    if len(values) != 1:
        names = " and ".join(f"{name}=" for name in given)
        raise UsageError(f"{names} are names of the same argument: pass exactly one. Nothing was sent.")
    return values[0]
