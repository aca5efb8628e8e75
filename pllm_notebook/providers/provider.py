"""`Provider`: everything that distinguishes one provider, as data.

A provider is a folder whose `__init__` builds one `Provider`, plus one `register` call (for this package's own, an
entry in `registry`). Importing this module loads no SDK.
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
"""A response's body, None if there is none, and the error as "kind: message", "" if there is none."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Facts about a provider's models, derived from their names. Anything unknown is learned from the first 400.

    Attributes:
        bare: Matches the names of its models that need no `provider:` before them; None if every name needs it.
        aliases: Prefixes that imply the provider but are part of the model's own name (`ft` in `ft:gpt-…`).
        continues_answers: Whether every model continues a conversation that ends with a prefill, the beginning of its
            answer.
        refuses_sampling: Returns whether a model rejects sampling parameters such as temperature in a body (HTTP 400).
        may_reason: Returns whether a model's answers to a body may have hidden reasoning tokens.
        efforts: Returns the values of `effort` that a model accepts, each with its value of `reasoning_effort` or with
            the body fields that mean the same; None if unknown: any value is sent, and the provider decides.
        gives_tokens: Returns whether a model gives token probabilities for a body; None if unknown: they are requested
            to find out.
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
    """Facts about a provider's prompt cache.

    Attributes:
        minimums: Patterns of model names, each with the length of the shortest prefix that is cached, in tokens. The
            first match applies.
        marks_travel: Whether other servers that use its format accept or ignore its cache marks.
    """

    minimums: tuple[tuple[re.Pattern[str], int], ...]
    marks_travel: bool = True


@dataclass(frozen=True, kw_only=True)
class SDKClients:
    """The provider's SDK, and the clients of that SDK that a caller may pass.

    Attributes:
        module: The top-level module of its classes.
        imports: Modules that `Provider.connect` imports, in order. They are loaded ahead, on a separate thread.
        over: Opens a transport over a caller's client.
        problem: Returns what is wrong with a client, as the end of a sentence; "" if nothing is.
        clouds: Names of the client classes for clouds that serve the provider's own models, at any address.
        has_batches: Returns whether a client's server has a batch API to which requests can be sent; some clouds read
            them from a bucket instead.
    """

    module: str
    imports: tuple[str, ...]
    over: Callable[[Any], Transport]
    problem: Callable[[Any], str] = lambda client: ""
    clouds: frozenset[str] = frozenset()
    has_batches: Callable[[Any], bool] = lambda client: True


class BatchAPIClass(Protocol):
    """A class that implements `BatchAPI`."""

    @property
    def limits(self) -> BatchLimits: ...

    def __call__(self, transport: Any, path: str, /) -> BatchAPI:
        """Open the batch API over a transport, for the path of one wire format."""


@dataclass(frozen=True, kw_only=True)
class BatchSupport:
    """The provider's batch API.

    Attributes:
        api: The class that implements it.
        line: Builds one line of its request file from the wire's path, the class names of a caller's client, a
            custom id, and the bytes that a live call would send.
        owns: Returns whether a result line has this provider's format.
        result: Parses one result line.
    """

    api: BatchAPIClass
    line: Callable[[str, Collection[str], str, bytes], bytes]
    owns: Callable[[Mapping[str, Any]], bool]
    result: Callable[[dict[str, Any]], BatchResult]


@dataclass(frozen=True, slots=True)
class BatchFormat:
    """The format of the batch request files for one endpoint.

    Attributes:
        batch: The provider's batch API.
        path: The wire's path.
        client_names: Class names of a caller's own client (see `sdk_transport.class_names`); empty for our client.
    """

    batch: BatchSupport
    path: str
    client_names: frozenset[str] = frozenset()

    def line(self, custom_id: str, body: bytes) -> bytes:
        """Build one line (see `BatchAPI.line`)."""
        return self.batch.line(self.path, self.client_names, custom_id, body)

    @property
    def limits(self) -> BatchLimits:
        """The limits of one job."""
        return self.batch.api.limits


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """The provider's format of the lines in the caller's own request files and results files.

    Attributes:
        id_field: Field with the line's id.
        body_field: Field with the request's body; a line that has an object there has this format.
        write_request: Builds a request line from its id, the wire, the model and the body.
        write_result: Builds the fields of a result line, except its id, from a response or failure and a request id.
        read_result: Reads a result line, also one from the provider's own batch API; returns None for a line in
            another format.
        url_field: Field with the endpoint, "" if there is only one endpoint.
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
        find: Returns the path of a model's weights, or raises `UnknownModelError`.
        open: Opens a transport over the weights at a path.
        max_parallel: Number of calls that one model processes at once.
    """

    find: Callable[[str], Path]
    open: Callable[[Path], Transport]
    max_parallel: int


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One provider.

    Attributes:
        name: Its name before the colon in `provider:model`, and its id in genai-prices.
        title: Its name in sentences.
        telemetry_name: Its name in OpenTelemetry's conventions, "" if that is *name*.
        other_names: Names that older programs use for it.
        wires: Its wire formats, the default one first; they hold no state.
        dialect: What its structured output can express.
        choose_wire: Returns the one of *wires* that serves a model; None if it is always the first.
        key_variables: Environment variables that may hold its key, the usual one first; () if it needs no key.
        cheap_model: Its cheap current model, "" if none is set.
        connect: Opens a transport on the loop that will use it, from a key and an address ("" for the provider's own);
            None if its models run in this process.
        in_process: How its models run in this process; None if it is a server.
        sdk: Its SDK; None if its transport does not use one.
        hosts: Hosts of its own API; their subdomains count too.
        api_host: The host that identifies it in request files with full addresses, "" if there is none.
        models: Facts about its models.
        prompt_cache: Facts about its prompt cache; None if it has none, or nothing is known about it.
        batch: Its batch API, None if it has none.
        no_batch_reason: Why it has no batch API, as a sentence for users; "" for a general one.
        lines: Its format of request lines, None if it has none.
        takes_extras: Whether its transport sends the caller's own headers and query parameters.
        largest_request_bytes: Maximum size of a request; None if unknown: then only the limit of one file applies.
        simulated: Whether the simulator imitates it, under `sim:NAME`.
        service_tiers: Body fields for each `service_tier` that it has.
        token_formats: How each of its wire formats has token probabilities, by name; only those that have them.
        decisions: Its decision endpoint, None if it has none.
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
        """The environment variable that sets another address than its own."""
        return f"{self.name.upper().replace('-', '_')}_BASE_URL"

    @property
    def imports(self) -> tuple[str, ...]:
        """Modules to load before a connection is opened, in order."""
        return () if self.sdk is None else self.sdk.imports

    def wire_for(self, model: str) -> Wire:
        """Return the wire format that serves *model*."""
        return self.wires[0] if self.choose_wire is None else self.choose_wire(model)

    def wire_named(self, format_name: str) -> Wire | None:
        """Return the wire format with this name, None if it has no such format."""
        return next((wire for wire in self.wires if wire.format_name == format_name), None)

    def is_own(self, address: str, client_names: Collection[str] = ()) -> bool:
        """Return whether the server at an address is the provider itself.

        Args:
            address: The base address, "" for the provider's default.
            client_names: Class names of a caller's own client (see `sdk_transport.class_names`).
        """
        if not address or (self.sdk is not None and not self.sdk.clouds.isdisjoint(client_names)):
            return True
        host = urlsplit(address).hostname or ""
        return any(host == own or host.endswith(f".{own}") for own in self.hosts)

    def foreign_host(self, address: str, client_names: Collection[str] = ()) -> str:
        """Return the host of *address*, without its port, which may change; "" if it is the provider's own."""
        return "" if self.is_own(address, client_names) else urlsplit(address).hostname or ""

    def cached_from_tokens(self, model: str) -> int | None:
        """Return the minimum length of a cached prefix for *model*, in tokens; None if no prompt cache is known."""
        minimums = () if self.prompt_cache is None else self.prompt_cache.minimums
        return next((tokens for pattern, tokens in minimums if pattern.match(model)), None)
