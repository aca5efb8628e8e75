"""Record answers in a readable file, and replay them without a key."""

from __future__ import annotations

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.file_errors import file_errors, file_path
from pllm_notebook.protocols import Transport
from pllm_notebook.providers import ResolvedModel, transports_replaced
from pllm_notebook.testing.isolation import throwaway_settings
from pllm_notebook.types import RawReply

__all__ = ["Recording", "UnscriptedPromptError", "excerpt", "record", "unscripted_error"]

# Fields for the providers' prompt caches: they depend on earlier requests and do not change answers.
_MARKS = frozenset({"prompt_cache_key", "prompt_cache_retention", "cache_control"})
_SHOWN = 3
_SHOWN_CHARS = 300


class UnscriptedPromptError(PllmError):
    """A prompt has no scripted or recorded answer. Nothing was sent to a provider."""


class Recording:
    """Requests and their replies, one JSON object per line. Contains no keys or headers. Thread-safe.

    Equal requests (samples of one row) get their replies in the order of the recording. When all have been replayed,
    the last one is repeated.

    Args:
        path: The file.
        must_exist: Whether a missing file is an error.

    Raises:
        UsageError: If the file is not a recording, or is missing and *must_exist* is set.
    """

    def __init__(self, path: str | os.PathLike[str], *, must_exist: bool = False) -> None:
        self.path = os.path.abspath(file_path(path, "a recording"))
        self.lost: OSError | None = None
        self._lock = threading.Lock()
        self._replies: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self._replayed: Counter[bytes] = Counter()
        try:
            with open(self.path, "rb") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            if must_exist:
                raise UsageError(
                    f"There is no recording {self.path}. Create it with pllm.testing.record(…), which needs a key."
                ) from None
            lines = []
        except OSError as error:
            with file_errors(self.path, "a recording"):
                raise error
        for number, line in enumerate(lines, 1):
            try:
                fields = orjson.loads(line)
                key = _key(fields["model"], fields["format"], fields["request"])
                self._replies[key].append(orjson.dumps(fields["reply"]))
            except (orjson.JSONDecodeError, KeyError, TypeError, RecursionError):
                raise UsageError(f"{self.path} is not a recording: line {number} cannot be read.") from None

    def find(self, model: ResolvedModel, content: bytes) -> RawReply | None:
        """Return the next recorded reply to a request, or None."""
        key = _key(model.label, model.wire.format_name, orjson.loads(content))
        with self._lock:
            replies = self._replies.get(key)
            if not replies:
                return None
            at, self._replayed[key] = self._replayed[key], self._replayed[key] + 1
            return RawReply(200, {}, replies[min(at, len(replies) - 1)])

    def has(self, model: ResolvedModel, content: bytes) -> bool:
        """Return whether a recorded reply to a request has not been replayed yet."""
        key = _key(model.label, model.wire.format_name, orjson.loads(content))
        with self._lock:
            return self._replayed[key] < len(self._replies.get(key, ()))

    def add(self, model: ResolvedModel, content: bytes, raw: RawReply) -> None:
        """Append a successful JSON reply. Other replies are ignored."""
        try:
            reply = orjson.loads(raw.body)
        except orjson.JSONDecodeError:
            return
        if not 200 <= raw.status < 300:
            return
        request = orjson.loads(content)
        line = {"model": model.label, "format": model.wire.format_name, "request": request, "reply": reply}
        key = _key(model.label, model.wire.format_name, request)
        with self._lock:
            self._replies[key].append(orjson.dumps(reply))
            self._replayed[key] += 1
            try:
                with open(self.path, "ab") as file:
                    file.write(orjson.dumps(line) + b"\n")
            except OSError as error:  # raised at the end of the block: the reply is paid for, and its row has it
                self.lost = self.lost or error


@contextmanager
def record(path: str | os.PathLike[str]) -> Iterator[None]:
    """Use the real models inside the block, and record requests and replies for `fake(path)`. Sends and pays.

    Replies that the file already contains are replayed, so a second recording pays only for new requests. The cache is
    not used. The file contains prompts and answers as plain text, but no keys.

    Args:
        path: A JSONL file, created if it does not exist.

    Raises:
        UsageError: If the file is not a recording. Nothing was sent.
        FileError: If the file cannot be written. Raised before anything is sent, or at the end of the block.
    """
    recording = Recording(path)
    with file_errors(recording.path, "a recording", writing=True), open(recording.path, "ab"):
        pass  # checked first: every answer of the block is paid for
    with (
        throwaway_settings(network=True),
        transports_replaced(lambda model: _Recorder(recording, model), keyless=False),
    ):
        yield
    if recording.lost is not None:
        with file_errors(recording.path, "a recording", "Not all that was answered is in it.", writing=True):
            raise recording.lost


class _Recorder(Transport):
    """A transport that replays the recording, and sends other requests through the model's own, opened on first use."""

    def __init__(self, recording: Recording, model: ResolvedModel) -> None:
        self._recording = recording
        self._model = model
        self._inner: Transport | None = None

    async def post(self, path: str, content: bytes) -> RawReply:
        if self._recording.has(self._model, content):
            found = self._recording.find(self._model, content)
            assert found is not None
            return found
        if self._inner is None:
            self._inner = self._model.connect()
        raw = await self._inner.post(path, content)
        self._recording.add(self._model, content, raw)
        return raw

    async def aclose(self) -> None:
        if self._inner is not None:
            await self._inner.aclose()


def excerpt(text: str) -> str:
    """Return the beginning of a prompt for a message."""
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def unscripted_error(beginning: str, prompts: Sequence[str]) -> UnscriptedPromptError:
    """Build the error, which shows the first of *prompts*."""
    shown = "".join(f"\n  {excerpt(prompt)}" for prompt in dict.fromkeys(prompts[:_SHOWN]))
    rest = "" if len(prompts) <= _SHOWN else f"\n  and {len(prompts) - _SHOWN:,} more"
    return UnscriptedPromptError(f"{beginning} {len(prompts):,} of the prompts:{shown}{rest}")


def _key(label: str, format_name: str, request: Any) -> bytes:
    return orjson.dumps([label, format_name, _without_marks(request)], option=orjson.OPT_SORT_KEYS)


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_marks(inner) for name, inner in value.items() if name not in _MARKS}
    return [_without_marks(inner) for inner in value] if isinstance(value, list) else value
