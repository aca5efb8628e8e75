"""A resolved model: everything needed to call it, built once per run."""

from __future__ import annotations

import hashlib
import importlib
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from pllm_notebook.exceptions import MissingKeyError, UsageError, sentence
from pllm_notebook.failures import Failure, FailureKind, truncate
from pllm_notebook.protocols import BatchAPI, MalformedReply, Transport, Wire
from pllm_notebook.providers.decision_endpoints import DecisionEndpoint
from pllm_notebook.providers.decoding import decoded, loaded
from pllm_notebook.providers.errors import beginning, unexplained
from pllm_notebook.providers.prompt_cache import ASKERS, BYTES_PER_TOKEN, LEAST_LEAD, OUR_KEYS
from pllm_notebook.providers.provider import BatchFormat, Provider
from pllm_notebook.providers.quirks import Quirks, effort_in
from pllm_notebook.providers.registry import SIMULATED, is_hosted
from pllm_notebook.providers.token_probabilities import OTHER_WAYS, TokenFormat
from pllm_notebook.runtime import Locked, Slot
from pllm_notebook.schema import Dialect
from pllm_notebook.types import RawReply, Reply

__all__ = ["ResolvedModel", "digest_of"]

logger = logging.getLogger("pllm_notebook")

# The SDKs share modules with circular imports. Two threads that enter the circle at different points would wait for
# each other, and Python then lets them continue with half-imported modules.
_LOADING: Slot[Locked] = Slot("SDK loading", Locked)


@dataclass(frozen=True)
class ResolvedModel:
    """One model at one address under one account.

    Attributes:
        provider: The provider's or server's name.
        label: The model as users write it.
        model: The model's name at the provider.
        api: The provider whose API it speaks; also for servers, clients and the simulator.
        wire: Its wire format.
        dialect: What its structured output can express.
        connect: Opens the transport; called on the engine's loop, and only when something must be sent.
            Raises `MissingKeyError` if a key is needed and absent.
        replacement: Opens another transport in place of its own, from the resolved model; None for its own.
        account: Identifies the account for limits and batch jobs, equal in every kernel; does not reveal the key.
        opener: Identifies a caller's own client in this process; "" for ours.
        quirks: What it has rejected or not followed in this process.
        price_provider: Its provider id in genai-prices, None if there are no prices.
        price_model: Its name in genai-prices.
        simulated: Whether its answers are simulated.
        unenforced_schema: Whether its structured output is not guaranteed.
        max_parallel: Number of calls that it can process at once, None if unknown.
        missing_key: The error that `connect` will raise without a key; None if there is a key or none is needed.
        imports: Modules that `connect` will import, in order, which may be loaded ahead.
        open_batch: Opens its batch API, with the errors of `connect`; None if it has none.
        batch_format: The format of its batch request files; None if it has no batch API.
        no_batch_reason: Why it has no batch API, as a sentence; "" if it has one.
        address: The address of a caller's own server, "" for a provider or a client.
        decisions: The decision endpoint if this is one, None for a chat model.
        host: The host that answers, "" if it is the provider's own.
        path: The URL path below the base address, always that of *wire*.
        dispatcher_key: Equal for models that share one set of limits and one connection.
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
    replacement: Callable[[ResolvedModel], Transport] | None = None
    opener: str = ""
    open_batch: Callable[[], BatchAPI] | None = None
    batch_format: BatchFormat | None = None
    no_batch_reason: str = ""
    address: str = ""
    host: str = ""
    decisions: DecisionEndpoint | None = None
    path: str = field(init=False)
    dispatcher_key: tuple[str, str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.wire.path(self.model))
        object.__setattr__(self, "dispatcher_key", (self.provider, f"{self.account}{self.opener}", self.model))

    @property
    def identity(self) -> str:
        """The name of the answering service in every cache key.

        For a provider at a foreign host it includes the host, so that the answers of a proxy or a mock do not pass for
        the provider's. For a caller's own server or client it is the name alone, at any address.
        """
        return f"{self.provider}@{self.host}" if self.host and is_hosted(self.provider) else self.provider

    def open(self) -> Transport:
        """Open its transport, or the one in its place. Called where `connect` may be, with the same errors."""
        # Given the model as it is now: a decision endpoint is made from a chat model that is already resolved.
        return self.connect() if self.replacement is None else self.replacement(self)

    def with_extras(self, headers: Mapping[str, str], query: Mapping[str, object]) -> ResolvedModel:
        """Return the same model with additional headers and query parameters, and a dispatcher of its own.

        Raises:
            UsageError: If its client accepts none. Nothing was sent.
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
        """Whether its client sends the caller's own headers and query parameters."""
        return self.api.takes_extras

    def load(self) -> None:
        """Import the modules that `connect` needs. Import errors are left for `connect` to report.

        Do not call it on the engine's thread, which the import of an SDK would block for a second.
        """
        for module in self.imports:
            with _LOADING.value.lock, suppress(ImportError):
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
        examples: int = 0,
    ) -> dict[str, Any]:
        """Return the wire body for a canonical body.

        Args:
            canonical_body: The body that `Wire.encode` returned; never changed.
            lead: The text at the beginning of every row's prompt, "" for none.
            shared: Whether other requests have the same prefix; a single request is not marked.
            turns: Whether the whole conversation will be sent again, with more turns.
            asker: Identifies the question. A prefix that another question sent recently counts as shared too. None to
                consider only *shared* and *turns*.
            shown: Whether the request is only shown, not sent.
            examples: Number of initial turns that all rows share.
        """
        is_marked = (shared or turns or asker is not None) and self._takes_marks
        body = self._adapted(canonical_body)
        if not is_marked:
            return body
        name = self._name(body, lead, examples)
        if name is not None and asker is not None:
            shared = ASKERS.value.another((*self.dispatcher_key, name), asker, note=not shown) or shared
        if not (shared or turns):
            return body
        turns = turns and self._is_kept(body)
        if name is None and not turns:
            return body
        return self.wire.mark_prompt_cache(body, name, lead, turns=turns, shown=examples)

    def prefix_name(self, canonical_body: Mapping[str, Any], lead: str = "", examples: int = 0) -> str | None:
        """Return a short hash of the prefix that a run's requests share.

        Args:
            canonical_body: As for `to_wire`.
            lead: As for `to_wire`.
            examples: As for `to_wire`.

        Returns:
            None if the provider's prompt cache would not keep it: it is too short, or there is no cache.
        """
        return None if self.cached_from_bytes is None else self._name(self._adapted(canonical_body), lead, examples)

    def _adapted(self, canonical_body: Mapping[str, Any]) -> dict[str, Any]:
        if "temperature" in canonical_body and self.refuses_sampling(canonical_body):
            # Not dropped permanently: it is accepted once another run calls without reasoning.
            self.quirks.tell("temperature", self.label)
            canonical_body = {name: value for name, value in canonical_body.items() if name != "temperature"}
        return self.quirks.to_wire(canonical_body, self.wire)

    def _is_kept(self, body: Mapping[str, Any]) -> bool:
        """Return whether a whole conversation is long enough for the provider's prompt cache."""
        smallest = self.cached_from_bytes
        return smallest is not None and len(orjson.dumps(body)) >= smallest

    def _name(self, body: Mapping[str, Any], lead: str, examples: int) -> str | None:
        smallest = self.cached_from_bytes
        if smallest is None:
            return None
        shared = b"".join(orjson.dumps(part) for part in self.wire.prefix(body, examples) if part)
        if len(shared) + len(lead.encode()) < smallest:
            return None
        # Only the first characters of the lead, since its detected end may vary.
        parts = (self.model.encode(), shared, lead[:LEAST_LEAD].encode())
        return OUR_KEYS + hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

    @property
    def cached_from_bytes(self) -> int | None:
        """The minimum length of a cached prefix in bytes, None if there is no prompt cache or none is known."""
        tokens = None if self.price_provider is None else self.api.cached_from_tokens(self.model)
        return None if tokens is None else tokens * BYTES_PER_TOKEN

    @property
    def _takes_marks(self) -> bool:
        cache = self.api.prompt_cache
        if cache is None or self.price_provider is None or not self.quirks.marks:
            return False
        return cache.marks_travel or self.provider in (self.api.name, f"{SIMULATED}:{self.api.name}")

    def refuses_sampling(self, body: Mapping[str, Any]) -> bool:
        """Return whether the model's name shows that it rejects sampling parameters in *body* (HTTP 400)."""
        return self.price_provider is not None and self.api.models.refuses_sampling(self.model, body)

    @property
    def efforts(self) -> Mapping[str, str | Mapping[str, Any]] | None:
        """The values of `effort` that it accepts (see `ModelFacts.efforts`), None if unknown: the server decides."""
        named = self.price_provider is not None or self.api.in_process is not None
        return self.api.models.efforts(self.price_model or self.model) if named else None

    @property
    def token_format(self) -> TokenFormat | None:
        """How its wire format has token probabilities, None if it has none."""
        return self.api.token_formats.get(self.wire.format_name)

    def gives_tokens(self, body: Mapping[str, Any]) -> bool | None:
        """Return whether answers to *body* can have token probabilities, None if only a request can show it."""
        if self.token_format is None or effort_in(body) in self.quirks.refuses_tokens:
            return False
        named = self.price_provider is not None or self.api.in_process is not None
        known = self.api.models.gives_tokens(self.price_model or self.model, body) if named else None
        # Replies without reasoning do not show what a body with reasoning gets.
        return known if known is False or self.quirks.gives_tokens is None else self.quirks.gives_tokens

    def note_tokens(self, *, has_any: bool) -> None:
        """Remember whether a reply had the requested token probabilities (see `Quirks.note_tokens`)."""
        self.quirks.note_tokens(has_any=has_any)

    def may_reason(self, body: Mapping[str, Any]) -> bool:
        """Return whether answers to *body* may have hidden reasoning tokens; True if unknown."""
        return self.price_provider is None or self.api.models.may_reason(self.price_model, body)

    def read(self, raw: RawReply) -> Reply | Failure:
        """Decode a response of any status. Never raises.

        A failure in a response with a status of success may have been charged, so its cost is unknown.
        """
        success = 200 <= raw.status < 300
        try:
            result = self._read(raw)
        except Exception as error:  # an error body of an unexpected shape
            logger.debug("%s: a response could not be read", self.label, exc_info=True)
            result = _malformed(raw, f"{type(error).__name__}: {error}"[:300]) if success else unexplained(raw)
        return replace(result, cost_usd=None) if success and isinstance(result, Failure) else result

    def _read(self, raw: RawReply) -> Reply | Failure:
        if not 200 <= raw.status < 300:
            return self._placed(raw, self.wire.error_from(raw))
        try:
            body = loaded(raw.body)
        except ValueError:
            return _malformed(raw, f"not JSON, but {_first_words(raw)}")
        if not isinstance(body, dict):
            return _malformed(raw, "not a JSON object")
        if body.get("error"):
            return self.wire.error_from(raw)
        try:
            return decoded(self.wire, body)
        except MalformedReply as error:
            return _malformed(raw, str(error))

    def _placed(self, raw: RawReply, failure: Failure) -> Failure:
        """Add advice to a 404 that does not mention the model and to a 400 about token probabilities."""
        if raw.status == 400 and "ogprobs" in f"{failure.field} {failure.message}":
            return replace(failure, message=f"{sentence(failure.message)} {OTHER_WAYS}")
        if raw.status != 404 or not self.address or self.model in failure.message or "model" in failure.message:
            return failure
        message = f"HTTP 404: nothing answers at {self.address.rstrip('/')}{self.path}."
        if not re.search(r"/v\d+\w*(/|$)", self.address):
            message += f" Most servers have their API below /v1: write {self.address.rstrip('/')}/v1."
        return replace(failure, message=message)

    def adapt(self, failure: Failure, sent: Mapping[str, Any]) -> bool:
        """Learn from a rejected request; return True if it may pass in another form (see `Quirks.adapt`)."""
        return self.quirks.adapt(failure, sent, self.label, unenforced_schema=self.unenforced_schema)


def digest_of(headers: Mapping[str, str], query: Mapping[str, object]) -> str:
    """Return a short hash of headers and query parameters, which does not reveal them."""
    encoded = orjson.dumps([dict(headers), dict(query)], option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(encoded).hexdigest()[:16]


def _first_words(raw: RawReply) -> str:
    """Return the first words of a body, quoted, which say what a proxy's page is; "empty" for an empty body."""
    return repr(truncate(" ".join(beginning(raw).split()), 80)) if raw.body.strip() else "empty"


def _malformed(raw: RawReply, what: str) -> Failure:
    return Failure(
        kind=FailureKind.MALFORMED,
        message=f"The provider's reply is not what it documents: {what}.",
        status=raw.status,
        raw=beginning(raw),
    )
