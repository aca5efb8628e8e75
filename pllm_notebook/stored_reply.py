"""A reply as the store keeps it."""

from __future__ import annotations

import time
from typing import Any

import orjson

from pllm_notebook.messages_types import ToolCall
from pllm_notebook.stored_metadata import decode_metadata, invalid_field
from pllm_notebook.types import Finish, Reply, Usage

__all__ = ["StoredReply"]


class StoredReply:
    """A reply as the store keeps it: a few numbers ready, the rest decoded when asked for.

    A warm run reads 100,000 of these and needs the text alone, so `meta` stays bytes until
    somebody wants the usage or the cost.

    Attributes:
        finish: How the reply ended.
        text: The answer, UTF-8.
        output_tokens: 0 where the provider did not say.
        output_limit: The limit that the request carried, 0 for none.
        meta: JSON: usage, cost_usd, model, asked, request_id, detail, latency_s, attempts, created_at,
            and `calls` where tools were called.
        raw: The response body as it came.
    """

    # `_fault` is set by the first look at it: what another machine shared is looked at before it is kept, and then
    # packed, which looks too; and the hundred thousand of a warm run are not looked at.
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
        """Pack a reply with what is known of the call that brought it.

        Args:
            reply: As it was decoded.
            raw: The response's body.
            asked: The model as a person writes it.
            output_limit: Tokens that the request let the answer have, None for no limit.
            cost_usd: US dollars, None for unknown.
            latency_s: Seconds of the request.
            attempts: Requests that it took.
            created_at: Seconds since the epoch, None for now.
            host: That answered, where it is not the provider's own.
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
            # Copied: orjson never gives back what it did not need of 4 kB, and a run keeps these to its end.
            bytes(memoryview(orjson.dumps(meta))),
            raw,
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """The decoded `meta`, with every fact that `of` writes; one that is odd or missing is unknown."""
        return decode_metadata(self.meta)

    @property
    def fault(self) -> str:
        """What in it no reply can have brought, "" for nothing. A checksum says that bytes are whole, not sound."""
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
        """Tokens, None where the provider did not say."""
        numbers = self.metadata["usage"]
        return None if numbers is None else Usage(*numbers)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tools that it called, in order."""
        return tuple(ToolCall(*call) for call in self.metadata.get("calls") or ())

    def usable(self, empty: bool) -> bool:
        """Return whether this reply serves any call at all; one without text does where it may be the answer."""
        if self.finish is Finish.COMPLETE:
            return empty or bool(self.text)
        return self.finish is not Finish.UNFINISHED

    def satisfies(self, output_limit: int | None, empty: bool = False) -> bool:
        """Return whether this reply answers a call with *output_limit* (None: no limit).

        A complete reply serves every limit at least as long as itself; a truncated one only
        limits up to its own, since a longer one would have brought more. One that ended abnormally serves none, and
        one without text only where *empty* says that it may be the answer: the call is sent again.
        """
        if self.finish is Finish.COMPLETE:  # first, and without a further call: a warm run asks it of each row
            return (empty or bool(self.text)) and (output_limit is None or self.output_tokens <= output_limit)
        if not self.usable(empty):
            return False
        if self.finish is Finish.TRUNCATED:
            return self.output_limit == 0 or (output_limit is not None and output_limit <= self.output_limit)
        return output_limit is None or self.output_tokens <= output_limit
