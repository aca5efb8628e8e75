"""Resolution of a model's name as users write it (`openai:gpt-6-luna`, `claude-haiku-5-5`, `vllm:qwen`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pllm_notebook.credentials import Address, Key
from pllm_notebook.exceptions import MissingKeyError, UnknownModelError, UsageError, guess, with_article
from pllm_notebook.protocols import BatchAPI, Transport, Wire
from pllm_notebook.providers import registry
from pllm_notebook.providers.clients import address_of, fingerprint, provider_of_client, serial_of
from pllm_notebook.providers.deciding import check_decision_formats
from pllm_notebook.providers.openai import COMPATIBLE_CHAT
from pllm_notebook.providers.provider import BatchFormat, BatchSupport, InProcess, Provider
from pllm_notebook.providers.quirks import quirks_of
from pllm_notebook.providers.registry import COMPATIBLE, SIMULATED
from pllm_notebook.providers.replaced_transport import replaced
from pllm_notebook.providers.resolved_model import ResolvedModel
from pllm_notebook.providers.sdk_transport import class_names
from pllm_notebook.schema import GRAMMAR

__all__ = ["check_accounts", "resolve"]

# For a server that needs no key: the SDK's client requires one.
_NO_KEY = Key("none")


def resolve(
    name: str | None,
    *,
    servers: Mapping[str, str],
    clients: Mapping[str, Any],
    keys: Mapping[str, Key],
    simulator: Callable[[str], str],
) -> ResolvedModel:
    """Resolve a model's name. Nothing is sent.

    Args:
        name: `provider:name`, a bare name that shows its provider, or None for the cheap current model of the first
            provider whose key is in the environment.
        servers: Addresses of OpenAI-compatible servers, by name.
        clients: The caller's own SDK clients, by name.
        keys: API keys by provider or server. They replace those of the environment.
        simulator: Returns the simulator's address for a provider's name or "compatible"; called when a connection is
            opened.

    Raises:
        UnknownModelError: If the model cannot be resolved. A missing key is not an error yet: all answers may be in
            the cache.
    """
    return replaced(_resolve(name, servers, clients, keys, simulator))


def _resolve(
    name: str | None,
    servers: Mapping[str, str],
    clients: Mapping[str, Any],
    keys: Mapping[str, Key],
    simulator: Callable[[str], str],
) -> ResolvedModel:
    if name is None:
        name = _default()
    prefix, colon, model = name.partition(":")
    if prefix not in servers and prefix not in clients:
        prefix, model = _without_alias(prefix, model, name)
    if not colon:
        inferred = registry.provider_of(name)
        names = (*registry.names(), *servers, *clients)
        if inferred is None and name not in names:
            seen = f"Cannot tell which provider serves {name!r}" if name.strip() else "The model's name is empty"
            first, slash, rest = name.strip().partition("/")
            if slash and rest and first in names:  # the form that other packages use
                raise UnknownModelError(f"{seen}. Did you mean '{first}:{rest}'? Nothing was sent.")
            raise UnknownModelError(
                f"{seen}. Write 'provider:{name.strip() or 'MODEL'}', where provider is one of {', '.join(names)}. "
                f"Nothing was sent."
            )
        prefix, model = (name, "") if inferred is None else (inferred, name)
    if prefix in clients:
        return _client_model(prefix, model, clients[prefix])
    if prefix in servers:
        return _server_model(prefix, model, Address(servers[prefix]), keys.get(prefix))
    if prefix == SIMULATED:
        return _simulated_model(model, simulator)
    provider = registry.find(prefix)
    if provider is None:
        names = (*registry.names(), *servers, *clients)
        if not prefix:
            raise UnknownModelError(
                f"{name!r} has no provider before its colon. Known are {', '.join(names)}. Nothing was sent."
            )
        raise UnknownModelError(
            f"There is no provider {prefix!r}.{guess(prefix, names)} Known are {', '.join(names)}; "
            f"a server of your own is added by pllm.configure(servers={{{prefix!r}: 'http://…/v1'}}). Nothing was sent."
        )
    if provider.in_process is not None:
        return _model_in_process(provider, provider.in_process, model)
    if not model:
        example = f"{prefix}:{provider.cheap_model or 'MODEL'}"
        raise UnknownModelError(f"{name!r} names no model: write {example}. Nothing was sent.")
    return _hosted_model(provider, model, keys.get(prefix))


def check_accounts(
    servers: Mapping[str, str] | None = None,
    clients: Mapping[str, Any] | None = None,
    decision_formats: Mapping[str, str] | None = None,
) -> None:
    """Check the servers, clients and decision formats of a configuration.

    Args:
        servers: Addresses of servers, by name. A provider's name is rejected: every model of that provider would be
            sent to the server.
        clients: The caller's own SDK clients, by name.
        decision_formats: The format of each server's decision endpoint, by the server's name.

    Raises:
        UsageError: If a server has a provider's name or a format is unknown.
        UnknownModelError: If a client is not an async client of a known SDK.
    """
    check_decision_formats(decision_formats or {})
    for name in servers or ():
        if name in registry.names():
            raise UsageError(
                f"A server cannot be named {name!r}: every model of that provider would be sent to it. "
                f"Give it another name, such as 'my_{name}'."
            )
    for name, client in (clients or {}).items():
        provider_of_client(name, client)


def _default() -> str:
    asked = [provider for provider in registry.hosted() if provider.cheap_model]
    for provider in asked:
        if any(os.environ.get(variable) for variable in provider.key_variables):
            return f"{provider.name}:{provider.cheap_model}"
    usual = [provider.key_variables[0] for provider in asked if provider.key_variables]
    raise UnknownModelError(
        f"No model is set, and none of {_listed(usual)} is in the environment. "
        "Set one of them, or name a model that needs no key: model='local:smollm2' (a small model in this process) "
        "or model='sim:openai' (simulated answers). Nothing was sent."
    )


def _without_alias(prefix: str, model: str, name: str) -> tuple[str, str]:
    """Return the provider and the whole name if the prefix is part of a model's name, else prefix and model as given.

    `ft:gpt-…` for example is a model of OpenAI.
    """
    for provider in registry.providers():
        if prefix in provider.models.aliases:
            return provider.name, name
    return prefix, model


def _hosted_model(provider: Provider, model: str, key: Key | None) -> ResolvedModel:
    key = key or _key_in(*provider.key_variables)
    address = Address(os.environ.get(provider.address_variable, ""))
    missing_key = None
    if key is None and provider.key_variables:
        missing_key = MissingKeyError(provider.name, provider.key_variables[0])

    def connect() -> Transport:
        assert provider.connect is not None
        if missing_key is not None:
            raise MissingKeyError(provider.name, provider.key_variables[0])
        used = key or Key("")
        if provider.key_variables:
            used.check(provider.name)
        return provider.connect(used, address)

    wire = provider.wire_for(model)
    batches = _batch_fields(provider, connect, wire, model)
    return ResolvedModel(
        provider=provider.name,
        label=f"{provider.name}:{model}",
        model=model,
        api=provider,
        wire=wire,
        dialect=provider.dialect,
        connect=connect,
        account=(key or Key("")).fingerprint(address),
        quirks=quirks_of(provider.name, address, model),
        unenforced_schema=not provider.is_own(address),
        host=provider.foreign_host(address),
        price_provider=provider.name,
        price_model=model,
        missing_key=missing_key,
        imports=() if missing_key is not None else provider.imports,
        **batches,
    )


def _server_model(name: str, model: str, address: Address, key: Key | None) -> ResolvedModel:
    # A local server accepts any key. One that checks keys has its own environment variable.
    used = key or _key_in(f"{name.upper().replace('-', '_')}_API_KEY") or _NO_KEY
    if not model:
        raise UnknownModelError(f"'{name}:' names no model of the server at {address}. Nothing was sent.")

    if not address.startswith(("http://", "https://")):
        raise UnknownModelError(
            f"The address of the server {name!r} is {str(address)!r}; expected one that begins with http:// or "
            f"https://, as 'http://localhost:8000/v1'. Nothing was sent."
        )

    def connect() -> Transport:
        assert COMPATIBLE.connect is not None
        used.check(name)
        return COMPATIBLE.connect(used, address)

    batches = _batch_fields(COMPATIBLE, connect, COMPATIBLE_CHAT, model)
    return ResolvedModel(
        provider=name,
        label=f"{name}:{model}",
        model=model,
        api=COMPATIBLE,
        wire=COMPATIBLE_CHAT,
        dialect=GRAMMAR,
        connect=connect,
        account=used.fingerprint(address),
        quirks=quirks_of(name, address, model),
        unenforced_schema=True,
        address=address,
        host=COMPATIBLE.foreign_host(address),
        imports=COMPATIBLE.imports,
        **batches,
    )


def _client_model(name: str, model: str, client: Any) -> ResolvedModel:
    """Resolve a model behind a caller's own client, whose class determines the wire format.

    The client itself has the address and the account.
    """
    provider = provider_of_client(name, client)
    assert provider.sdk is not None
    wire, own_names = provider.wire_for(model), class_names(client)
    connect = partial(provider.sdk.over, client)
    batches = (
        _batch_fields(provider, connect, wire, model, own_names)
        if provider.sdk.has_batches(client)
        else {
            "no_batch_reason": f"The client {name!r} is {with_article(type(client).__name__)}, which has no batch API."
        }
    )
    return ResolvedModel(
        provider=name,
        label=f"{name}:{model}",
        model=model,
        api=provider,
        wire=wire,
        dialect=provider.dialect,
        connect=connect,
        account=fingerprint(client),
        opener=serial_of(client),
        quirks=quirks_of(name, serial_of(client), model),
        unenforced_schema=not provider.is_own(address_of(client), own_names),
        host=provider.foreign_host(address_of(client), own_names),
        price_provider=provider.name,
        price_model=model,
        **batches,
    )


def _model_in_process(provider: Provider, runtime: InProcess, model: str) -> ResolvedModel:
    file, wire = runtime.find(model), provider.wire_for(model)
    name = f"{file.name}@{file.stat().st_size}"
    return ResolvedModel(
        provider=provider.name,
        label=f"{provider.name}:{model}",
        # The weights' name and size identify them; the path differs between machines.
        model=name,
        api=provider,
        wire=wire,
        dialect=provider.dialect,
        connect=partial(runtime.open, file),
        account="",
        quirks=quirks_of(provider.name, str(file), model),
        price_provider=provider.name,
        price_model=model,
        max_parallel=runtime.max_parallel,
        no_batch_reason=provider.no_batch_reason,
    )


def _simulated_model(name: str, simulator: Callable[[str], str]) -> ResolvedModel:
    kind, _, model = name.partition("/")
    simulated = {provider.name: provider for provider in registry.providers() if provider.simulated}
    if kind not in (*simulated, "compatible"):
        kinds = [f"{SIMULATED}:{known}" for known in (*simulated, "compatible")]
        raise UnknownModelError(
            f"'sim:{name}' is not simulated.{guess(kind, simulated)} There are {_listed(kinds)}, each with /MODEL "
            f"after it if you like. Nothing was sent."
        )
    is_own = kind in simulated
    provider = simulated.get(kind, COMPATIBLE)
    model = model or provider.cheap_model
    wire: Wire = provider.wire_for(model) if is_own else COMPATIBLE_CHAT

    def connect() -> Transport:
        assert provider.connect is not None
        return provider.connect(_NO_KEY, Address(simulator(kind)))

    batches = _batch_fields(provider, connect, wire, model)
    return ResolvedModel(
        provider=f"{SIMULATED}:{kind}",
        label=f"{SIMULATED}:{kind}/{model}",
        model=model,
        api=provider,
        wire=wire,
        dialect=provider.dialect if is_own else GRAMMAR,
        connect=connect,
        account="",
        quirks=quirks_of(SIMULATED, kind, model),
        simulated=True,
        unenforced_schema=not is_own,
        imports=provider.imports,
        price_provider=provider.name if is_own else None,
        price_model=model if is_own else "",
        **batches,
    )


def _batch_fields(
    provider: Provider,
    connect: Callable[[], Transport],
    wire: Wire,
    model: str,
    client_names: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    batch = provider.batch
    if batch is None:
        return {"no_batch_reason": provider.no_batch_reason or f"{provider.title} has no batch API here."}
    path = wire.path(model)
    return {
        "open_batch": partial(_open_batch, batch, connect, path),
        "batch_format": BatchFormat(batch, path, client_names),
    }


def _open_batch(batch: BatchSupport, connect: Callable[[], Transport], path: str) -> BatchAPI:
    return batch.api(connect(), path)


def _key_in(*variables: str) -> Key | None:
    """Return the key in the first of these environment variables that is set, None if none is."""
    return next((Key(os.environ[variable]) for variable in variables if os.environ.get(variable, "").strip()), None)


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
