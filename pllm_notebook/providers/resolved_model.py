"""A resolved model: everything needed to ask it, put together once per run."""

from __future__ import annotations

import hashlib
import importlib
import logging
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson

from pllm_notebook.exceptions import MissingKeyError, UsageError
from pllm_notebook.protocols import BatchAPI, MalformedReply, Transport, Wire
from pllm_notebook.providers.decoding import decoded, loaded
from pllm_notebook.providers.errors import beginning, unexplained
from pllm_notebook.providers.prompt_cache import BYTES_PER_TOKEN, LEAST_LEAD, OUR_KEYS, askers
from pllm_notebook.providers.provider import BatchFormat, Provider
from pllm_notebook.providers.quirks import Quirks
from pllm_notebook.providers.registry import SIMULATED, is_hosted
from pllm_notebook.records import Failure, FailureKind, RawReply, Reply
from pllm_notebook.schema import Dialect

__all__ = ["ResolvedModel", "digest_of"]

logger = logging.getLogger("pllm_notebook")

# The SDKs share modules that import each other in a circle. Two threads that begin at two ends of it would each
# wait for the other, and Python lets them go on with modules that are half imported.
_loading = threading.Lock()


@dataclass(frozen=True)
class ResolvedModel:
    """One model at one address under one account.

    Attributes:
        provider: The provider's or server's name.
        label: The model as a person writes it.
        model: The model's name as the provider takes it.
        api: The provider whose API it speaks: its own, or the one that a server, a client or the simulator stands for.
        wire: Its wire format.
        dialect: What its structured output can express.
        connect: Opens the transport; called on the engine's loop, and only when something must be sent.
            Raises `MissingKeyError` where a key is needed and absent.
        account: Tells accounts apart for limits and batch jobs, in every kernel alike, without telling the key.
        opener: Tells apart what opens the same account in this process: a caller's own clients; "" for us.
        quirks: What it turned out to refuse.
        price_provider: genai-prices' provider id, None where there are no prices.
        price_model: The model's name there.
        simulated: Whether its answers are invented.
        unenforced_schema: Whether its structured output is not guaranteed.
        max_parallel: Calls it can work on at once, None for unknown.
        missing_key: What `connect` will raise for want of a key, None where there is one or none is needed.
        imports: Modules that `connect` will import, in the order in which they may be loaded ahead.
        open_batch: Opens its batch API, with the errors of `connect`; None where it has none.
        batch_format: Of its batch API's request files; None where it has none.
        no_batch_reason: Why it has none, as a sentence for a person; "" where it has one.
        address: Of a server of the caller's own, "" for a provider's.
        host: That answers in a provider's or a server's name, and is not the provider's own; "" for its own.
    """

    provider: str
    label: str
    model: str
    api: Provider
    wire: Wire
    dialect: Dialect
    connect: Callable[[], Transport]
    account: str
    quirks: Quirks
    price_provider: str | None = None
    price_model: str = ""
    simulated: bool = False
    unenforced_schema: bool = False
    max_parallel: int | None = None
    missing_key: MissingKeyError | None = None
    imports: tuple[str, ...] = ()
    opener: str = ""
    open_batch: Callable[[], BatchAPI] | None = None
    batch_format: BatchFormat | None = None
    no_batch_reason: str = ""
    address: str = ""
    host: str = ""

    @property
    def identity(self) -> str:
        """Whose answers these are, as it stands in every key.

        A provider's name at another host is not the provider: a proxy, or a mock, must not answer for it later. A
        server by name is the caller's own identity, wherever it is.
        """
        return f"{self.provider}@{self.host}" if self.host and is_hosted(self.provider) else self.provider

    @property
    def dispatcher_key(self) -> tuple[str, str, str]:
        """What shares one set of limits, and one connection."""
        return (self.provider, f"{self.account}{self.opener}", self.model)

    def with_extras(self, headers: Mapping[str, str], query: Mapping[str, object]) -> ResolvedModel:
        """Return the same target, asked with further headers and query parameters. It has a dispatcher of its own.

        Raises:
            UsageError: For Google, whose client takes none, and a model in this process. Nothing was sent.
        """
        if not self.extendable:
            raise UsageError(
                f"extra_headers= and extra_query= have no equal at {self.label}: they are of OpenAI's and Anthropic's "
                f"clients. Nothing was sent."
            )

        def connect() -> Transport:
            transport: Any = self.connect()
            extended: Transport = transport.with_extras(headers, query)
            return extended

        return replace(self, connect=connect, opener=f"{self.opener}+{digest_of(headers, query)}")

    @property
    def extendable(self) -> bool:
        """Whether its client sends headers and query parameters of the caller's own."""
        return self.api.takes_extras

    @property
    def path(self) -> str:
        """The URL's path below the base address."""
        return self.wire.path(self.model)

    def load(self) -> None:
        """Import what `connect` needs, from any thread but the engine's, which an SDK would stop for a second.

        What cannot be imported is left for `connect` to tell.
        """
        for module in self.imports:
            with _loading, suppress(ImportError):
                importlib.import_module(module)

    def to_wire(
        self,
        canonical_body: Mapping[str, Any],
        lead: str = "",
        *,
        shared: bool = True,
        turns: bool = False,
        asker: int | None = None,
        shown: bool = False,
    ) -> dict[str, Any]:
        """Turn an intended body into what goes on the wire.

        Args:
            canonical_body: As `Wire.encode` gives it; never changed.
            lead: The text that the rows' prompts begin with, "" for none.
            shared: Whether other requests begin likewise; one that stands alone is not marked.
            turns: Whether the whole conversation is to be sent again, with more turns.
            asker: Tells questions apart: a prefix that another one has asked with lately is shared too. None to be
                marked for nothing but the above.
            shown: Whether the request is only shown, so that the question does not count as asked.
        """
        body = self._adapted(canonical_body)
        if not ((shared or turns or asker is not None) and self._takes_marks):
            return body
        name = self._name(body, lead)
        if name is not None and asker is not None:
            shared = askers.another((*self.dispatcher_key, name), asker, note=not shown) or shared
        if not (shared or turns):
            return body
        turns = turns and self._is_kept(body)
        return self.wire.mark_prompt_cache(body, name, lead, turns=turns) if name is not None or turns else body

    def prefix_name(self, canonical_body: Mapping[str, Any], lead: str = "") -> str | None:
        """Name the prefix that a run's requests share, by a short hash that tells nothing of it.

        Args:
            canonical_body: As for `to_wire`.
            lead: As for `to_wire`.

        Returns:
            None where the provider's prompt cache would not keep it: it is too short, or there is no such cache.
        """
        return self._name(self._adapted(canonical_body), lead)

    def _adapted(self, canonical_body: Mapping[str, Any]) -> dict[str, Any]:
        if "temperature" in canonical_body and self.refuses_sampling(canonical_body):
            # Not dropped for good: another run may ask without reasoning, and then it is taken.
            self.quirks.tell("temperature", self.label)
            canonical_body = {name: value for name, value in canonical_body.items() if name != "temperature"}
        return self.quirks.to_wire(canonical_body, self.wire)

    def _is_kept(self, body: Mapping[str, Any]) -> bool:
        """Return whether a whole conversation is long enough for the provider's prompt cache."""
        smallest = self._cached_from_bytes
        return smallest is not None and len(orjson.dumps(body)) >= smallest

    def _name(self, body: Mapping[str, Any], lead: str) -> str | None:
        smallest = self._cached_from_bytes
        if smallest is None:
            return None
        shared = b"".join(orjson.dumps(part) for part in self.wire.prefix(body) if part)
        if len(shared) + len(lead.encode()) < smallest:
            return None
        # Of the lead only what does not hang on where it was found to end.
        parts = (self.model.encode(), shared, lead[:LEAST_LEAD].encode())
        return OUR_KEYS + hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

    @property
    def _cached_from_bytes(self) -> int | None:
        """The length from which its prompt cache keeps a prefix, None where there is none, or nobody knows of it."""
        tokens = None if self.price_provider is None else self.api.cached_from_tokens(self.model)
        return None if tokens is None else tokens * BYTES_PER_TOKEN

    @property
    def _takes_marks(self) -> bool:
        cache = self.api.prompt_cache
        if cache is None or self.price_provider is None or not self.quirks.marks:
            return False
        return cache.marks_travel or self.provider in (self.api.name, f"{SIMULATED}:{self.api.name}")

    def refuses_sampling(self, body: Mapping[str, Any]) -> bool:
        """Return whether temperature and the like would be a 400 for *body*, as far as the model's name tells."""
        return self.price_provider is not None and self.api.models.refuses_sampling(self.model, body)

    def may_reason(self, body: Mapping[str, Any]) -> bool:
        """Return whether answers to *body* may have tokens that nobody sees; True where nobody knows."""
        return self.price_provider is None or self.api.models.may_reason(self.price_model, body)

    def read(self, raw: RawReply) -> Reply | Failure:
        """Read a response, whatever its status. Nothing escapes, whatever it says."""
        try:
            return self._read(raw)
        except Exception as error:  # an error body of a shape that nobody thought of
            logger.debug("%s: a response could not be read", self.label, exc_info=True)
            if 200 <= raw.status < 300:
                return _malformed(raw, f"{type(error).__name__}: {error}"[:300])
            return unexplained(raw)

    def _read(self, raw: RawReply) -> Reply | Failure:
        if not 200 <= raw.status < 300:
            return self._placed(raw, self.wire.error_from(raw))
        try:
            body = loaded(raw.body)
        except ValueError:
            return _malformed(raw, "not JSON")
        if not isinstance(body, dict):
            return _malformed(raw, "not a JSON object")
        if body.get("error"):
            return self.wire.error_from(raw)
        try:
            return decoded(self.wire, body)
        except MalformedReply as error:
            return _malformed(raw, str(error))

    def _placed(self, raw: RawReply, failure: Failure) -> Failure:
        """Say where nothing answers, for a 404 that does not speak of the model."""
        if raw.status != 404 or not self.address or self.model in failure.message or "model" in failure.message:
            return failure
        message = f"HTTP 404: nothing answers at {self.address.rstrip('/')}{self.path}."
        if not re.search(r"/v\d+\w*(/|$)", self.address):
            message += f" Most servers have their API below /v1: write {self.address.rstrip('/')}/v1."
        return replace(failure, message=message)

    def adapt(self, failure: Failure, sent: Mapping[str, Any]) -> bool:
        """Learn from a rejected request; True when the same call is worth sending again."""
        return self.quirks.adapt(failure, sent, self.label, unenforced_schema=self.unenforced_schema)


def digest_of(headers: Mapping[str, str], query: Mapping[str, object]) -> str:
    """Return a short hash of further headers and query parameters, which tells nothing of them."""
    encoded = orjson.dumps([dict(headers), dict(query)], option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(encoded).hexdigest()[:16]


def _malformed(raw: RawReply, what: str) -> Failure:
    return Failure(
        kind=FailureKind.MALFORMED,
        message=f"The provider's reply is not what it documents: {what}.",
        status=raw.status,
        raw=beginning(raw),
    )
