"""One provider as data: all that sets it apart, for every room that has to know.

A provider is a folder whose `__init__` builds one `Provider`, and one `register` call. Nothing here loads an SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pllm_notebook.credentials import Address, Key
from pllm_notebook.failures import Failure
from pllm_notebook.protocols import BatchAPI, Transport, Wire
from pllm_notebook.providers.decision_endpoints import DecisionEndpoint
from pllm_notebook.providers.token_probabilities import TokenFormat
from pllm_notebook.schema import Dialect
from pllm_notebook.types import BatchLimits, BatchResult

__all__ = [
    "BatchFormat",
    "BatchSupport",
    "InProcess",
    "JsonLines",
    "ModelFacts",
    "PromptCacheFacts",
    "Provider",
    "SDKClients",
]

ResultRead = tuple[Mapping[str, Any] | None, str]
"""A response's body, None for none, and the error as "kind: message", "" for none."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of a provider's models by their names; anything unknown is learned at the first 400.

    Attributes:
        bare: Matches bare names of its models, which then need no `provider:` before them; None for none.
        aliases: Prefixes that mean the provider and belong to the model's (`ft` in `ft:gpt-…`).
        continues_answers: Whether every model continues a conversation that ends with the beginning of its answer.
        refuses_sampling: Whether temperature and the like would be a 400 for a model and a body.
        may_reason: Whether answers of a model to a body may have hidden tokens.
        efforts: What a model takes as `effort`, each with the value of `reasoning_effort` or with the fields of the
            body that mean it; None where that is unknown, and the provider decides.
        gives_tokens: Whether a model gives token probabilities for a body; None where that is unknown: it is tried.
    """

    bare: re.Pattern[str] | None = None
    aliases: tuple[str, ...] = ()
    continues_answers: bool = False
    refuses_sampling: Callable[[str, Mapping[str, Any]], bool] = lambda model, body: False
    may_reason: Callable[[str, Mapping[str, Any]], bool] = lambda model, body: True
    efforts: Callable[[str], Mapping[str, str | Mapping[str, Any]] | None] = lambda model: None
    gives_tokens: Callable[[str, Mapping[str, Any]], bool | None] = lambda model, body: None


@dataclass(frozen=True, kw_only=True)
class PromptCacheFacts:
    """What is known of a provider's prompt cache.

    Attributes:
        minimums: The shortest prefix that is kept, in tokens, by the first pattern that matches the model.
        marks_travel: Whether other servers of its format take its marks too, or ignore them.
    """

    minimums: tuple[tuple[re.Pattern[str], int], ...]
    marks_travel: bool = True


@dataclass(frozen=True, kw_only=True)
class SDKClients:
    """The provider's SDK, and what a caller's own client of it may be.

    Attributes:
        module: The top-level module of its classes.
        imports: Modules that `Provider.connect` imports, loaded ahead on a thread of their own, in order.
        over: Opens a transport over a caller's client.
        problem: Says what is wrong with a client (the end of a sentence), "" for nothing.
        clouds: Client classes of clouds that serve the provider's own models, wherever their address leads.
        has_batches: Whether what a client leads to has a batch API that takes its requests from us.
    """

    module: str
    imports: tuple[str, ...]
    over: Callable[[Any], Transport]
    problem: Callable[[Any], str] = lambda client: ""
    clouds: frozenset[str] = frozenset()
    has_batches: Callable[[Any], bool] = lambda client: True


class BatchAPIClass(Protocol):
    """A class of batch APIs."""

    @property
    def limits(self) -> BatchLimits: ...

    def __call__(self, transport: Any, path: str, /) -> BatchAPI:
        """Open the batch API over a transport, for one wire path."""


@dataclass(frozen=True, kw_only=True)
class BatchSupport:
    """The provider's batch API.

    Attributes:
        api: Its class.
        line: Writes one line of its request file, from the wire's path, the class names of a caller's client, a
            custom id, and the bytes that a live call would send.
        owns: Whether a result line is one of its own.
        result: Reads one result line.
    """

    api: BatchAPIClass
    line: Callable[[str, Collection[str], str, bytes], bytes]
    owns: Callable[[Mapping[str, Any]], bool]
    result: Callable[[dict[str, Any]], BatchResult]


@dataclass(frozen=True, slots=True)
class BatchFormat:
    """One endpoint's request files.

    Attributes:
        batch: The batch API.
        path: The wire's.
        client_names: Of the class of a caller's own client (see `sdk_transport.class_names`).
    """

    batch: BatchSupport
    path: str
    client_names: frozenset[str] = frozenset()

    def line(self, custom_id: str, body: bytes) -> bytes:
        """Return one line (see `BatchAPI.line`)."""
        return self.batch.line(self.path, self.client_names, custom_id, body)

    @property
    def limits(self) -> BatchLimits:
        """What one job may hold."""
        return self.batch.api.limits


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """The form of the provider's lines in request files and results files of the caller's own.

    Attributes:
        id_field: Names the line.
        body_field: Holds the request; it identifies the form of a line.
        write_request: Builds a line from its id, the wire, the model and the body.
        write_result: Builds what a result line has beside the id, from a response or a failure and a request id.
        read_result: Reads such a line, one of the provider's own batch included; None for a line of another form.
        url_field: Names the endpoint where there are several, "" where there is one.
    """

    id_field: str
    body_field: str
    write_request: Callable[[str, Wire, str, Mapping[str, Any]], dict[str, Any]]
    write_result: Callable[[Mapping[str, Any] | Failure, str], dict[str, Any]]
    read_result: Callable[[Mapping[str, Any]], ResultRead | None]
    url_field: str = ""


@dataclass(frozen=True, kw_only=True)
class InProcess:
    """Models that run in this process.

    Attributes:
        find: Finds a model's weights. Raises `UnknownModelError`.
        open: Opens a transport over weights.
        max_parallel: Calls it works on at once.
    """

    find: Callable[[str], Path]
    open: Callable[[Path], Transport]
    max_parallel: int


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One provider.

    Attributes:
        name: As people write it before a colon, and as genai-prices calls it.
        title: As sentences call it.
        telemetry_name: As OpenTelemetry's conventions call it, "" where that is *name*.
        other_names: Names that older programs have for it.
        wires: Its wire formats, the usual one first; they hold no state.
        dialect: What its structured output can express.
        choose_wire: Picks one of *wires* by the model; None for always the first.
        key_variables: Environment variables that may hold its key, the usual one first; () where none is needed.
        cheap_model: Its cheap current model, "" for none.
        connect: Opens a client's transport on the loop that will use it; None for models in this process.
        in_process: For models in this process; None for all others.
        sdk: Its SDK; None for a transport of one's own.
        hosts: Where its own API answers, subdomains included.
        api_host: The one of them that request files name, "" for none.
        models: What is known of its models by their names.
        prompt_cache: None if it has none, or none is known.
        batch: Its batch API, None for none.
        no_batch_reason: Why it has none, as a sentence for a person.
        lines: Its form of request lines, None for none.
        takes_extras: Whether its transport sends headers and query parameters of the caller's own.
        largest_request_bytes: None where only the limit of one file is known.
        simulated: Whether the simulator answers as it does, under `sim:NAME`.
        service_tiers: Fields of the body for each `service_tier` that it has.
        token_formats: Token probabilities, by the names of its wire formats that have them.
        decisions: Its decision endpoint, None for none.
    """

    name: str
    title: str
    wires: tuple[Wire, ...]
    dialect: Dialect
    telemetry_name: str = ""
    other_names: tuple[str, ...] = ()
    choose_wire: Callable[[str], Wire] | None = None
    key_variables: tuple[str, ...] = ()
    cheap_model: str = ""
    connect: Callable[[Key, Address], Transport] | None = None
    in_process: InProcess | None = None
    sdk: SDKClients | None = None
    hosts: tuple[str, ...] = ()
    api_host: str = ""
    models: ModelFacts = ModelFacts()
    prompt_cache: PromptCacheFacts | None = None
    batch: BatchSupport | None = None
    no_batch_reason: str = ""
    lines: JsonLines | None = None
    takes_extras: bool = False
    largest_request_bytes: int | None = None
    simulated: bool = False
    service_tiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    token_formats: Mapping[str, TokenFormat] = field(default_factory=dict)
    decisions: DecisionEndpoint | None = None

    @property
    def address_variable(self) -> str:
        """The environment variable of another address than its own."""
        return f"{self.name.upper().replace('-', '_')}_BASE_URL"

    @property
    def imports(self) -> tuple[str, ...]:
        """Modules worth loading before a connection is opened."""
        return () if self.sdk is None else self.sdk.imports

    def wire_for(self, model: str) -> Wire:
        """Return the wire format that serves *model*."""
        return self.wires[0] if self.choose_wire is None else self.choose_wire(model)

    def wire_named(self, format_name: str) -> Wire | None:
        """Return one of its wire formats, None where it has no such."""
        return next((wire for wire in self.wires if wire.format_name == format_name), None)

    def is_own(self, address: str, client_names: Collection[str] = ()) -> bool:
        """Return whether what answers at *address* ("" for the default) is the provider itself.

        Args:
            address: The base address.
            client_names: Of a caller's client's class and of those it is made from.
        """
        if not address or (self.sdk is not None and not self.sdk.clouds.isdisjoint(client_names)):
            return True
        host = urlsplit(address).hostname or ""
        return any(host == own or host.endswith(f".{own}") for own in self.hosts)

    def foreign_host(self, address: str, client_names: Collection[str] = ()) -> str:
        """Return an address's host, without its port, which may change; "" for the provider's own."""
        return "" if self.is_own(address, client_names) else urlsplit(address).hostname or ""

    def cached_from_tokens(self, model: str) -> int | None:
        """Return the length from which its prompt cache keeps a prefix of *model*, None where there is none."""
        minimums = () if self.prompt_cache is None else self.prompt_cache.minimums
        return next((tokens for pattern, tokens in minimums if pattern.match(model)), None)
