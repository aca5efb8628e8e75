"""A provider in virtual time that speaks OpenAI's format, answers by the prompt alone, and fails as told."""

from __future__ import annotations

import asyncio
import math
import random
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from pllm_notebook.failures import FailureKind
from pllm_notebook.prices import Rate
from pllm_notebook.prompts import ITEMS
from pllm_notebook.protocols import TransportFault
from pllm_notebook.types import RawReply, Usage
from tests.simulation.accounts import Accounts, Asked, Paid
from tests.simulation.world import Process

__all__ = ["CANARY", "LIMIT_TOKENS", "Provider", "ProviderFaults", "score_of"]

CANARY = "sk-canary-5f1d0c2b9a7e"
LIMIT_TOKENS = 60

_ITEM = re.compile(r"item-\d+")
_VERSION = re.compile(r"\(v\d\)")


def score_of(item: str, version: str, variant: int) -> int:
    """Give what the model says of a row: by its own prompt, and by the mood of the moment."""
    return zlib.crc32(f"{item} {version} {variant}".encode()) % 1000


@dataclass(frozen=True)
class ProviderFaults:
    """What meets requests.

    Attributes:
        shares: Fault to the share of requests that it meets.
        median_s: Of the latencies.
        sigma: Of their logarithms.
        slots: Requests at once, beyond which it refuses; None for no end.
        refuses_key_at: Number of the request from which on the key is refused, None for never.
        poison: Rows that it takes no request for.
        no_temperature: Whether it refuses that parameter.
        no_schema: Whether it refuses structured output.
        tells: Whether it tells its limits with every response.
        script: What meets the first requests of the step, in order: a fault, and the seconds that it takes.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    median_s: float = 0.5
    sigma: float = 0.6
    slots: int | None = None
    refuses_key_at: int | None = None
    poison: frozenset[str] = frozenset()
    no_temperature: bool = False
    no_schema: bool = False
    tells: bool = False
    script: tuple[tuple[str, float], ...] = ()


class Provider:
    """One process's connection to the provider (see `protocols.Transport`)."""

    def __init__(
        self, process: Process, accounts: Accounts, faults: ProviderFaults, rates: Mapping[str, Rate | None], seed: str
    ) -> None:
        self._process = process
        self._accounts = accounts
        self.faults = faults
        self._rates = rates
        self._rng = random.Random(f"{seed}:{process.number}:provider")
        self._inside = self._scripted = 0
        self.open = 0

    def connect(self) -> Provider:
        self.open += 1
        return self

    async def aclose(self) -> None:
        self.open -= 1

    async def post(self, path: str, content: bytes) -> RawReply:
        process, accounts, rng = self._process, self._accounts, self._rng
        body = orjson.loads(content)
        asked = _asked(body, content, accounts.rules.salt)
        fate, latency_s = self._fate()
        paid: Paid | None = None
        self._inside += 1
        try:
            await asyncio.sleep(rng.choice((0.0, 0.001, 0.02)))
            if fate == "reset before":
                raise TransportFault(FailureKind.CONNECTION, "Connection reset by peer")
            if process.step("arrives", asked.kind, asked.items, fate):
                await _for_ever()
            accounts.requests += 1
            refusal = self._refusal(fate, asked, body)
            if refusal is not None:
                await asyncio.sleep(min(latency_s, 0.05))
                return refusal
            usage = Usage(max(1, len(content) // 5), rng.randint(1, LIMIT_TOKENS))
            rate = self._rates[body["model"]]
            # An error that comes with status 200 may be charged, and here it is.
            paid = accounts.admit(asked, 0.0 if rate is None else rate.cost_usd(usage))
            raw = self._answer(paid, asked, body, usage, fate)
            await (_for_ever() if fate == "hang" else asyncio.sleep(latency_s))
            if process.step("leaves", paid.id, fate):
                await _for_ever()
            if fate == "reset after":
                raise TransportFault(FailureKind.CONNECTION, "Server disconnected")
            if fate == "times out":
                raise TimeoutError
            paid.state = "lost: spoilt" if fate.startswith("spoilt") else "in hand"
            if fate == "truncated" and accounts.rules.ceiling and 2 * usage.output_tokens >= _limit_of(body):
                paid.state = "lost: cut off at the limit that the ceiling allowed"
            return raw
        finally:
            self._inside -= 1
            if paid is not None and paid.state == "out" and not process.dead:
                accounts.lose(paid, "cancelled or cut off")

    def _fate(self) -> tuple[str, float]:
        """Draw what meets a request, and the seconds that it takes."""
        faults, rng = self.faults, self._rng
        if self._scripted < len(faults.script):
            self._scripted += 1
            return faults.script[self._scripted - 1]
        latency_s = faults.median_s * math.exp(rng.gauss(0.0, faults.sigma))
        at = rng.random()
        for name, share in faults.shares.items():
            at -= share
            if at < 0:
                return name, latency_s
        return "answered", latency_s

    def _refusal(self, fate: str, asked: Asked, body: Mapping[str, Any]) -> RawReply | None:
        faults = self.faults
        if faults.refuses_key_at is not None and self._accounts.requests >= faults.refuses_key_at:
            return _error(401, f"Incorrect API key provided: {CANARY}.", code="invalid_api_key")
        if faults.slots is not None and self._inside > faults.slots:
            return _error(429, "Too many at once.")
        if faults.no_temperature and "temperature" in body:
            return _error(400, "Unsupported parameter: 'temperature'.", param="temperature")
        if faults.no_schema and body.get("response_format", {}).get("type") == "json_schema":
            return _error(400, "response_format json_schema is not supported.", param="response_format")
        if faults.poison.intersection(asked.items):
            return _error(400, f"This cannot be processed for {CANARY}.")
        match fate:
            case "429 told":
                wait = self._rng.choice(("0.4", "2", "9"))
                return _error(429, "Rate limit reached.", headers={"retry-after": wait})
            case "429 limits":
                told = _limits(600, 0, "2s")
                return _error(429, "Rate limit reached.", headers=told)
            case "429":
                return _error(429, f"Slow down, {CANARY}.")
            case "500" | "503" | "529":
                return _error(int(fate), f"The server had an error for Bearer {CANARY}.")
        return None

    def _answer(self, paid: Paid, asked: Asked, body: Mapping[str, Any], usage: Usage, fate: str) -> RawReply:
        rng = self._rng
        headers = _limits(6_000, max(0, 90 - self._inside), "0.1s") if self.faults.tells else {}
        if fate == "spoilt html":
            return RawReply(200, headers, b"<html>Bad gateway</html>")
        if fate == "spoilt empty":
            return RawReply(200, headers, orjson.dumps({"id": paid.id, "choices": []}))
        if fate == "spoilt error":
            return _error(200, "The server is overloaded.", code="503")
        text, finish, refusal = self._text(asked, body, fate), "stop", None
        if fate == "truncated":
            text, finish = text[: rng.randint(0, len(text) - 1)], "length"
        elif fate == "refused":
            text, refusal = "", "I cannot help with that."
        elif fate == "filtered":
            text, finish = "", "content_filter"
        message = {"role": "assistant", "content": text or None, "refusal": refusal}
        counts = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        whole = {"id": paid.id, "model": body["model"], "choices": [choice], "usage": counts}
        return RawReply(200, headers, orjson.dumps(whole))

    def _text(self, asked: Asked, body: Mapping[str, Any], fate: str) -> str:
        rng = self._rng
        if asked.kind == "judge":
            candidates = orjson.loads(asked.subject[0])["candidates"]
            if fate == "wrong":
                return '{"scores": []}'
            marks = dict.fromkeys(("accuracy", "completeness", "relevance", "quality", "consistency"), 7)
            scores = [{"candidate": one["candidate"], **marks} for one in candidates]
            return orjson.dumps({"scores": scores, "answer": rng.choice(candidates)["answer"]}).decode()
        if asked.kind != "pack":
            answer = self._one(asked, asked.items[0], fate)
            text = answer if isinstance(answer, str) else orjson.dumps(answer).decode()
            return f"Sure:\n```json\n{text}\n```" if fate == "fenced" and not isinstance(answer, str) else text
        entries: list[dict[str, Any]] = []
        for index, item in enumerate(asked.items):
            meets = "wrong" if fate == "wrong" and rng.random() < 0.4 else "answered"
            entries.append({"index": index, "answer": self._one(asked, item, meets)})
        if fate == "gaps":
            entries = [entry for entry in entries if rng.random() < 0.6]
            if entries and rng.random() < 0.3:
                entries.append({"index": entries[0]["index"], "answer": entries[-1]["answer"]})
            if entries and rng.random() < 0.3:
                entries.append({"index": 99, "answer": entries[-1]["answer"]})
        rng.shuffle(entries)
        return orjson.dumps({"answers": entries}).decode()

    def _one(self, asked: Asked, item: str, fate: str) -> Any:
        version, shape = asked.question[:2]
        score = score_of(item, version, self._rng.randint(0, 1))
        if shape == "text":
            return f"{item} scores {score}"
        if fate == "wrong":
            return {"item": item, "score": "many"} if self._rng.random() < 0.7 else "no idea"
        return {"item": item, "score": score} | ({"label": f"is {item}"} if shape == "labelled" else {})


def _asked(body: Mapping[str, Any], content: bytes, salt: str) -> Asked:
    system = " ".join(message["content"] for message in body["messages"] if message["role"] == "system")
    turns = tuple(message["content"] for message in body["messages"] if message["role"] != "system")
    first = turns[0]
    found = _VERSION.search(first)
    assert found is not None
    shape = "labelled" if b"label" in content else "scored" if b"score" in content.replace(b"scores", b"") else "text"
    question = (found[0], shape, salt, body["model"])
    if system.startswith("You decide"):
        return Asked((question[0], salt, body["model"]), "judge", turns, ())
    if ITEMS in first:
        return Asked(question, "pack", turns, tuple(_ITEM.findall(first.rpartition(ITEMS)[2])))
    return Asked(question, "row" if len(turns) == 1 else "repair", turns, tuple(_ITEM.findall(first)[:1]))


def _limit_of(body: Mapping[str, Any]) -> int:
    """Return the output limit that a request sets."""
    limit: int = body.get("max_completion_tokens") or body["max_tokens"]
    return limit


def _limits(limit: int, remaining: int, reset: str) -> dict[str, str]:
    names = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
    return dict(zip(names, (str(limit), str(remaining), reset), strict=True))


def _error(
    status: int, message: str, *, code: str = "", param: str = "", headers: Mapping[str, str] | None = None
) -> RawReply:
    error = {"message": message, "type": "error", "param": param or None, "code": code or None}
    return RawReply(status, headers or {}, orjson.dumps({"error": error}))


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
