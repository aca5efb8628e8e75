"""The server's log: counts, attempts of each prompt, and the last requests."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.sim.wire_types import Tokens

__all__ = ["RequestLog"]

_SECRET = frozenset({"authorization", "x-api-key", "x-goog-api-key", "api-key", "proxy-authorization", "cookie"})


class RequestLog:
    """Counters, changed only on the server's event loop.

    Invariant: `_tries[key]` is (times admitted, times answered completely) of one model, prompt and schema.
    """

    def __init__(self, keep: int) -> None:
        self.requests = 0
        self.answered = 0
        self.rejected = 0
        self.refused_429 = 0
        self.refused_503 = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.distinct = 0
        self.repeated = 0
        self.batch_requests = 0
        self.batch_jobs = 0
        self.batch_lines = 0
        self._lines_asked = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.faults: Counter[str] = Counter()
        self._charged: dict[str, list[int]] = {}
        self._tries: dict[bytes, list[int]] = {}
        self._kept: deque[tuple[str, str, Mapping[str, str], bytes]] = deque(maxlen=keep)

    def arrive(self, provider: str, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Record a request and return the number of requests before it."""
        index = self.requests + self._lines_asked
        self.requests += 1
        self.in_flight += 1
        if self.in_flight > self.peak_in_flight:
            self.peak_in_flight = self.in_flight
        self._kept.append((provider, path, headers, body))
        return index

    def leave(self) -> None:
        """Record the end of a request, with or without an answer."""
        self.in_flight -= 1

    def ask_line(self) -> int:
        """Record the start of a batch line and return the number of requests and lines before it."""
        self._lines_asked += 1
        return self.requests + self._lines_asked - 1

    def try_of(self, key: bytes) -> int:
        """Record that *key* was admitted and return the number of times before."""
        entry = self._tries.get(key)
        if entry is None:
            self._tries[key] = [1, 0]
            return 0
        entry[0] += 1
        return entry[0] - 1

    def answer(self, key: bytes, input_tokens: int, output_tokens: int) -> None:
        """Record a complete answer."""
        self.answered += 1
        self._pay(key, input_tokens, output_tokens)

    def answer_line(self, key: bytes, input_tokens: int, output_tokens: int) -> None:
        """Record an answered line of a batch job."""
        self.batch_lines += 1
        self._pay(key, input_tokens, output_tokens)

    def charge(self, provider: str, model: str, tokens: Tokens) -> None:
        """Record the tokens that a provider could charge, even if the answer is lost."""
        held = self._charged.setdefault(f"{provider}/{model}{' batch' if tokens.batch else ''}", [0, 0, 0, 0])
        for at, number in enumerate((tokens.input, tokens.cached, tokens.written, tokens.output)):
            held[at] += number

    def _pay(self, key: bytes, input_tokens: int, output_tokens: int) -> None:
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        entry = self._tries.get(key)
        if entry is None:
            return  # Sent before a reset and answered after it.
        entry[1] += 1
        if entry[1] == 1:
            self.distinct += 1
        elif entry[1] == 2:
            self.repeated += 1

    def keep(self, most: int) -> None:
        """Keep at most *most* requests from now on."""
        self._kept = deque(self._kept, maxlen=most)

    def stats(self) -> dict[str, Any]:
        """Return the counts."""
        names = (
            "requests answered rejected refused_429 refused_503 in_flight peak_in_flight distinct repeated "
            "batch_requests batch_jobs batch_lines input_tokens output_tokens"
        )
        counts = {name: getattr(self, name) for name in names.split()}
        return {**counts, "faults": dict(self.faults), "charged": self._charged}

    def last(self, limit: int) -> list[dict[str, Any]]:
        """Return the last requests, oldest first, with keys redacted."""
        chosen = list(self._kept)[-limit:] if limit > 0 else []
        return [
            {
                "provider": provider,
                "path": path,
                "headers": {
                    name.lower(): "[redacted]" if name.lower() in _SECRET else value for name, value in headers.items()
                },
                "body": _parsed(body),
            }
            for provider, path, headers, body in chosen
        ]


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
