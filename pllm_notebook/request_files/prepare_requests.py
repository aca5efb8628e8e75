"""Write a list of prompts as a request file, to be processed later, elsewhere, or by a provider's own batch page."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.file_errors import file_errors, file_path
from pllm_notebook.files import replacing
from pllm_notebook.prompt_lists import LLMPromptContext, as_prompt_list, prepare_prompts
from pllm_notebook.providers import ResolvedModel, is_hosted

__all__ = ["prepare_requests_file"]

_NOTHING = "Nothing was written."


def prepare_requests_file(
    prompts: Iterable[LLMPromptContext],
    path: str | os.PathLike[str] | None = None,
    *,
    form: Literal["openai", "anthropic"] | None = None,
    overwrite: bool = False,
) -> str:
    """Write one request line for each prompt, in order. Sends nothing.

    A line is exactly the request that `run_parallel_ai_completion` sends, so both share their cached answers. The ids
    of the prompts become the lines' `custom_id`; a provider's own batch requires them to be unique. The model of a
    simulator or a configured server is prefixed with its name, which no provider's batch accepts.

    Args:
        prompts: Any mix of providers, models and configurations.
        path: Path of the file to write, which is replaced atomically. None for a new file in the working directory,
            `requests_TIME_RANDOM.jsonl`, with a unique name.
        form: "openai" or "anthropic" to require that batch format for all lines. None for the format of each prompt's
            provider, which may be Google's.
        overwrite: Whether an existing file is replaced.

    Returns:
        The path.

    Raises:
        UsageError: For an invalid prompt, a prompt in a format other than *form*, or an existing file without
            *overwrite*. Nothing was written.
        FileError: If the file cannot be written. Nothing was written.
    """
    if form not in (None, "openai", "anthropic"):
        raise UsageError(f"form is 'openai', 'anthropic' or None, not {form!r}. Nothing was written.")
    path = _new_path() if path is None else file_path(path, "a request file", _NOTHING)
    if os.path.isfile(path) and not overwrite:
        raise UsageError(f"{path} exists. Give another name, or overwrite=True. {_NOTHING}")
    contexts = as_prompt_list(prompts)
    asked = prepare_prompts(contexts, {"mode": "async"}, {})
    for place, failure in asked.failures.items():
        raise UsageError(f"The prompt {contexts[place].id!r} is invalid: {failure.message} Nothing was written.")
    lines: list[bytes] = [b""] * len(contexts)
    for part in asked.parts:
        target = part.spec.target
        spoken = target.api.name
        for row, prompt in zip(part.rows, part.prompts, strict=True):
            source = contexts[asked.places[row]].id
            if form not in (None, spoken):
                raise UsageError(
                    f"The prompt {source!r} is for {target.label}, whose requests have {spoken}'s format, not "
                    f"{form}'s. Leave form out for a file with several formats. Nothing was written."
                )
            try:
                line = orjson.dumps(_line(source, target, part.spec.whole(prompt)), option=orjson.OPT_APPEND_NEWLINE)
            except TypeError as error:  # a lone surrogate, or a value that is not JSON
                raise UsageError(
                    f"The prompt {source!r} cannot be written as JSON: {error}. Nothing was written."
                ) from error
            lines[asked.places[row]] = line
    with file_errors(path, "a request file", _NOTHING, writing=True):
        _write(path, lines)
    return path


def _new_path() -> str:
    return f"requests_{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(4)}.jsonl"


def _write(path: str, lines: list[bytes]) -> None:
    with replacing(path, synced=False, mode=0o666) as file:
        file.writelines(lines)


def _line(source: str, target: ResolvedModel, body: Mapping[str, Any]) -> dict[str, Any]:
    # A provider's own batch file needs the bare name. Any other model could not be resolved without its prefix.
    name = target.model if is_hosted(target.provider) else target.label
    if not target.wire.model_in_path:
        body = {**body, "model": name}
    assert target.api.lines is not None
    return target.api.lines.write_request(source, target.wire, name, body)
