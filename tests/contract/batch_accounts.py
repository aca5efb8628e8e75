"""Accounts that tell of one batch job as a provider does, over HTTP, and what the real SDKs make of it."""

from __future__ import annotations

import time
from typing import Any

import anthropic
import openai
import orjson
from google import genai
from google.genai import types

from pllm_notebook.failures import Failure
from pllm_notebook.protocols import BatchAPI
from pllm_notebook.providers import ResolvedModel, resolve
from pllm_notebook.types import BatchResult, Reply
from tests.contract.batch_server import Asked, BatchServer, Torn
from tests.contract.test_batch_apis import with_api

__all__ = [
    "MODELS",
    "NAMES",
    "REPLIES",
    "all_of",
    "client_of",
    "job_of",
    "line_of",
    "of_client",
    "one_of",
    "results_of",
    "serving",
    "target_of",
]

MODELS = {"openai": "gpt-6-luna", "anthropic": "claude-haiku-5-5", "google": "gemini-3.5-flash-lite"}
REPLIES: dict[str, dict[str, Any]] = {
    "openai": {"choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]},
    "anthropic": {"content": [{"type": "text", "text": "yes"}], "stop_reason": "end_turn"},
    "google": {"candidates": [{"content": {"parts": [{"text": "yes"}]}, "finishReason": "STOP"}]},
}
NAMES = {"openai": "batch_1", "anthropic": "msgbatch_1", "google": "batches/1"}


def client_of(kind: str, url: str) -> Any:
    if kind == "openai":
        return openai.AsyncOpenAI(api_key="sk-secret-secret", base_url=url)
    if kind == "anthropic":
        return anthropic.AsyncAnthropic(api_key="sk-secret-secret", base_url=url)
    return genai.Client(api_key="sk-secret-secret", http_options=types.HttpOptions(base_url=url))


def target_of(kind: str, server: BatchServer) -> ResolvedModel:
    return of_client(kind, client_of(kind, server.url))


def of_client(kind: str, client: Any) -> ResolvedModel:
    return resolve(f"own:{MODELS[kind]}", servers={}, clients={"own": client}, keys={}, simulator=str)


def job_of(kind: str, **about: Any) -> dict[str, Any]:
    """A job as its provider tells of it, ended and with results; *about* in place of its fields."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime())
    if kind == "openai":
        told = {"id": "batch_1", "status": "completed", "created_at": int(time.time()), "output_file_id": "file-out"}
    elif kind == "anthropic":
        told = {"id": "msgbatch_1", "processing_status": "ended", "created_at": now}
    else:
        output = {"responsesFile": "files/out"}
        return {"name": "batches/1", "metadata": {"state": "BATCH_STATE_SUCCEEDED", "output": output} | about}
    return told | about


def line_of(kind: str, number: int = 1, body: bytes | None = None) -> bytes:
    """A result line, with its end."""
    reply = orjson.dumps(REPLIES[kind]) if body is None else body
    around = {
        "openai": b'{"custom_id":"p1-%d","response":{"status_code":200,"request_id":"r","body":%s},"error":null}\n',
        "anthropic": b'{"custom_id":"p1-%d","result":{"type":"succeeded","message":%s}}\n',
        "google": b'{"key":"p1-%d","response":%s}\n',
    }
    return around[kind] % (number, reply)


def serving(kind: str, results: Any) -> Any:
    """An account with one ended job."""

    def answer(asked: Asked) -> Any:
        if "content" in asked.path or "download" in asked.path or asked.path.endswith("/results"):
            return results() if callable(results) else results
        return 200, job_of(kind)

    return answer


async def all_of(api: BatchAPI, name: str) -> list[BatchResult]:
    return [result async for result in api.results(await api.look(name))]


def results_of(kind: str, results: Any) -> list[BatchResult]:
    with BatchServer(serving(kind, results)) as server:
        return with_api(target_of(kind, server), lambda api: all_of(api, NAMES[kind]))


def one_of(kind: str, line: dict[str, Any]) -> tuple[BatchResult, Reply | Failure | None]:
    (result,) = results_of(kind, Torn([orjson.dumps(line) + b"\n"], whole=True))
    target = of_client(kind, client_of(kind, "http://127.0.0.1:9"))
    return result, None if result.raw is None else target.read(result.raw)
