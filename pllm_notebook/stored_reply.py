"""A reply in the store's form."""

from __future__ import annotations

import time
from typing import Any

import orjson

from pllm_notebook.messages_types import ToolCall
from pllm_notebook.stored_metadata import decode_metadata, invalid_field
from pllm_notebook.types import Finish, Reply, Usage

__all__ = ["StoredReply"]


class StoredReply:
    """A reply in the store's form: a few numbers are decoded, the rest on demand.

    A warm run reads 100,000 of these and needs only the text, so `meta` stays bytes until
    the usage or the cost is read.

    Attributes:
        finish: How the reply ended.
        text: The answer, UTF-8.
        output_tokens: Output tokens; 0 if the provider did not report them.
        output_limit: The request's output limit, 0 for none.
        meta: JSON: usage, cost_usd, model, asked, request_id, detail, latency_s, attempts, created_at,
            and `calls` if tools were called.
        raw: The response body as received.
    """

    # `_fault` is set on first access. A reply shared by another machine is checked before it is stored and again when
    # it is packed; the 100,000 replies of a warm run are not checked.
    __slots__ = ("_fault", "finish", "meta", "output_limit", "output_tokens", "raw", "text")
    _fault: str

    def __init__(
        self, finish: Finish, text: bytes, output_tokens: int, output_limit: int, meta: bytes, raw: bytes
    ) -> None:
        self.finish = finish
        self.text = text
        self.output_tokens = output_tokens
        self.output_limit = output_limit
        self.meta = meta
        self.raw = raw

    @classmethod
    def of(
        cls,
        reply: Reply,
        raw: bytes,
        *,
        asked: str,
        output_limit: int | None,
        cost_usd: float | None,
        latency_s: float,
        attempts: int,
        created_at: float | None = None,
        host: str = "",
    ) -> StoredReply:
        """Build the stored form of a reply, with the metadata of its call.

        Args:
            reply: The decoded reply.
            raw: The response's body.
            asked: The model as written by the user.
            output_limit: The request's output limit in tokens, None for no limit.
            cost_usd: Cost in US dollars, None if unknown.
            latency_s: Latency of the request in seconds.
            attempts: Number of requests.
            created_at: Seconds since the epoch, None for now.
            host: The host that answered, if it is not the provider's own.
        """
        usage = reply.usage
        meta: dict[str, Any] = {
            "usage": None
            if usage is None
            else [
                usage.input_tokens,
                usage.output_tokens,
                usage.cache_read_tokens,
                usage.cache_write_tokens,
                usage.reasoning_tokens,
            ],
            "cost_usd": cost_usd,
            "model": reply.model,
            "asked": asked,
            "request_id": reply.request_id,
            "detail": reply.detail,
            "latency_s": round(latency_s, 6),
            "attempts": attempts,
            "created_at": time.time() if created_at is None else created_at,
        }
        if host:
            meta["host"] = host
        if reply.calls:
            meta["calls"] = [[call.id, call.name, call.arguments] for call in reply.calls]
        return cls(
            reply.finish,
            reply.text.encode("utf-8", "surrogatepass"),
            usage.output_tokens if usage else 0,
            output_limit or 0,
            # Copy it: orjson does not release the unused part of its 4 kB buffer, and a run keeps these until it ends.
            bytes(memoryview(orjson.dumps(meta))),
            raw,
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """The decoded `meta`, with every fact that `of` writes. An invalid or missing fact is unknown."""
        return decode_metadata(self.meta)

    @property
    def fault(self) -> str:
        """The invalid part of the entry, "" for none. A checksum proves that bytes are complete, not valid."""
        try:
            return self._fault
        except AttributeError:
            self._fault = self._find_fault()
        return self._fault

    def _find_fault(self) -> str:
        try:
            self.text.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return "its text is not UTF-8"
        if fact := invalid_field(self.meta):
            return f"its {fact} is not one that a reply can have"
        if self.finish is Finish.CALLED and not self.calls:
            return "it called tools, and names none"
        return ""

    @property
    def usage(self) -> Usage | None:
        """Token counts, None if the provider did not report them."""
        numbers = self.metadata["usage"]
        return None if numbers is None else Usage(*numbers)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The reply's tool calls, in order."""
        return tuple(ToolCall(*call) for call in self.metadata.get("calls") or ())

    def usable(self, empty: bool) -> bool:
        """Return whether this reply can answer any call. A reply without text can if *empty*."""
        if self.finish is Finish.COMPLETE:
            return empty or bool(self.text)
        return self.finish is not Finish.UNFINISHED

    def satisfies(self, output_limit: int | None, empty: bool = False) -> bool:
        """Return whether this reply answers a call with *output_limit* (None: no limit).

        A complete reply satisfies every limit of at least its own length. A truncated reply satisfies only
        limits up to its own, since a higher limit would have returned more. A reply that ended abnormally satisfies
        none, and a reply without text only if *empty*. If not satisfied, the call is sent again.
        """
        if self.finish is Finish.COMPLETE:  # first, and without a function call: a warm run checks each row
            return (empty or bool(self.text)) and (output_limit is None or self.output_tokens <= output_limit)
        if not self.usable(empty):
            return False
        if self.finish is Finish.TRUNCATED:
            return self.output_limit == 0 or (output_limit is not None and output_limit <= self.output_limit)
        return output_limit is None or self.output_tokens <= output_limit
