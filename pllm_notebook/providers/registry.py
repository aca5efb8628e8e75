"""From the words a person writes (`openai:gpt-6-luna`, `claude-haiku-5-5`, `vllm:qwen`) to a target."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pllm_notebook.credentials import Address, Key
from pllm_notebook.exceptions import MissingKeyError, UnknownModelError, guess
from pllm_notebook.protocols import Transport
from pllm_notebook.providers import models
from pllm_notebook.providers.batch.open import BatchFormat, open_batch_api
from pllm_notebook.providers.clients import address_of, class_names, fingerprint, has_batches, maker_of
from pllm_notebook.providers.hosts import foreign_host, is_own
from pllm_notebook.providers.quirks import quirks_of
from pllm_notebook.providers.resolved_model import ResolvedModel
from pllm_notebook.schema import ANTHROPIC, GOOGLE, GRAMMAR, OPENAI, Dialect

__all__ = ["KEYS", "PROVIDERS", "resolve"]

PROVIDERS = ("openai", "anthropic", "google", "local", "sim")

KEYS: dict[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
}
_DIALECTS: dict[str, Dialect] = {"openai": OPENAI, "anthropic": ANTHROPIC, "google": GOOGLE}
_PACKAGES = {"openai": "openai", "anthropic": "anthropic", "google": "google.genai"}


def resolve(
    name: str | None,
    *,
    servers: Mapping[str, str],
    clients: Mapping[str, Any],
    keys: Mapping[str, Key],
    simulator: Callable[[str], str],
) -> ResolvedModel:
    """Resolve a model.

    Args:
        name: `provider:name`, a bare name whose provider shows, or None for the cheap current model
            of the first provider whose key is in the environment.
        servers: OpenAI-compatible servers, name to address.
        clients: SDK clients of the caller's own, name to client.
        keys: API keys by provider, in place of the environment's.
        simulator: Gives the simulator's address for a wire format; called on the first request.

    Raises:
        UnknownModelError: When it cannot be resolved. A missing key is not an error yet: nothing
            may have to be sent.
    """
    if name is None:
        name = _default()
    provider, colon, model = name.partition(":")
    if provider == "ft" and provider not in servers and provider not in clients:
        provider, model = "openai", name  # a fine-tuned model of OpenAI's, whose name has colons
    if not colon:
        found = models.provider_of(name)
        if found is None:
            raise UnknownModelError(
                f"The model {name!r} does not show its provider. Write 'provider:{name}', where provider is one of "
                f"{', '.join([*PROVIDERS, *servers, *clients])}. Nothing was sent."
            )
        provider, model = found, name
    if provider in clients:
        return _client_target(provider, model, clients[provider])
    if provider in servers:
        return _server_target(provider, model, Address(servers[provider]), keys.get(provider))
    if provider == "local":
        return _local_target(model)
    if provider == "sim":
        return _sim_target(model, simulator)
    if provider in KEYS:
        if not model:
            raise UnknownModelError(
                f"{name!r} names no model: write {provider}:{models.CHEAP[provider]}. Nothing was sent."
            )
        return _hosted_target(provider, model, keys.get(provider))
    known = [*PROVIDERS, *servers, *clients]
    raise UnknownModelError(
        f"There is no provider {provider!r}.{guess(provider, known)} Known are {', '.join(known)}; "
        f"a server of your own is added by pllm.configure(servers={{{provider!r}: 'http://…/v1'}}). Nothing was sent."
    )


def _default() -> str:
    for provider, variables in KEYS.items():
        if any(os.environ.get(variable) for variable in variables):
            return f"{provider}:{models.CHEAP[provider]}"
    raise UnknownModelError(
        "No model is set, and none of OPENAI_API_KEY, ANTHROPIC_API_KEY and GOOGLE_API_KEY is in the environment. "
        "Set one of them, or name a model that needs no key: model='local:smollm2' (a small model in this process) "
        "or model='sim:openai' (simulated answers). Nothing was sent."
    )


def _hosted_target(provider: str, model: str, key: Key | None) -> ResolvedModel:
    variables = KEYS[provider]
    key = key or _key_in(*variables)
    address = Address(os.environ.get(f"{provider.upper()}_BASE_URL", ""))
    missing_key = MissingKeyError(provider, variables[0]) if key is None else None

    def connect() -> Transport:
        if key is None:
            raise MissingKeyError(provider, variables[0])
        key.check(provider)
        return _open(provider, key, address)

    wire = _wire(provider, model)
    return ResolvedModel(
        provider=provider,
        label=f"{provider}:{model}",
        model=model,
        wire=wire,
        dialect=_DIALECTS[provider],
        connect=connect,
        account=(key or Key("")).fingerprint(address),
        quirks=quirks_of(provider, address, model),
        unenforced_schema=not is_own(provider, address),
        host=foreign_host(provider, address),
        price_provider=provider,
        price_model=model,
        missing_key=missing_key,
        package=None if key is None else _PACKAGES[provider],
        open_batch=lambda: open_batch_api(provider, connect(), wire.path(model)),
        batch_format=BatchFormat(provider, wire.path(model)),
    )


def _server_target(name: str, model: str, address: Address, key: Key | None) -> ResolvedModel:
    from pllm_notebook.providers.openai.chat import Chat
    from pllm_notebook.providers.openai.connect import connect as connect_openai

    # A local server wants any key at all; one behind a gate has its own variable.
    used = key or _key_in(f"{name.upper().replace('-', '_')}_API_KEY") or Key("none")
    if not model:
        raise UnknownModelError(f"'{name}:' names no model of the server at {address}. Nothing was sent.")

    if not address.startswith(("http://", "https://")):
        raise UnknownModelError(
            f"The address of the server {name!r} is {str(address)!r}; expected one that begins with http:// or "
            f"https://, as 'http://localhost:8000/v1'. Nothing was sent."
        )

    def connect() -> Transport:
        used.check(name)
        return connect_openai(used, address)

    wire = Chat("max_tokens", strict=False)
    return ResolvedModel(
        provider=name,
        label=f"{name}:{model}",
        model=model,
        wire=wire,
        dialect=GRAMMAR,
        connect=connect,
        account=used.fingerprint(address),
        quirks=quirks_of(name, address, model),
        unenforced_schema=True,
        address=address,
        host=foreign_host("openai", address),
        package=_PACKAGES["openai"],
        open_batch=lambda: open_batch_api("openai", connect(), wire.path(model)),
        batch_format=BatchFormat("openai", wire.path(model)),
    )


def _client_target(name: str, model: str, client: Any) -> ResolvedModel:
    """A client of an SDK's own: its class tells the wire format, and it knows address and account."""
    kind = maker_of(name, client)

    def connect() -> Transport:
        if kind == "google":
            from pllm_notebook.providers.google.generate import GenaiTransport

            return GenaiTransport(client)
        from pllm_notebook.providers.sdk_transport import SDKTransport

        return SDKTransport(client, owned=False)

    wire = _wire(kind, model)
    batches = has_batches(client)
    return ResolvedModel(
        provider=name,
        label=f"{name}:{model}",
        model=model,
        wire=wire,
        dialect=_DIALECTS[kind],
        connect=connect,
        account=fingerprint(client),
        opener=str(id(client)),
        quirks=quirks_of(name, str(id(client)), model),
        unenforced_schema=not is_own(kind, address_of(client), class_names(client)),
        host=foreign_host(kind, address_of(client), class_names(client)),
        price_provider=kind,
        price_model=model,
        open_batch=(lambda: open_batch_api(kind, connect(), wire.path(model))) if batches else None,
        batch_format=BatchFormat(kind, wire.path(model), class_names(client)) if batches else None,
        no_batch_reason="" if batches else f"The client {name!r} is a {type(client).__name__}, which has no batch API.",
    )


def _local_target(model: str) -> ResolvedModel:
    from pllm_notebook.providers.local import llama
    from pllm_notebook.providers.local.chat import LocalChat

    path = llama.weights_of(model)
    return ResolvedModel(
        provider="local",
        label=f"local:{model}",
        # The weights' name and size stand for the weights; the path differs between machines.
        model=f"{path.name}@{path.stat().st_size}",
        wire=LocalChat(),
        dialect=GRAMMAR,
        connect=lambda: llama.LocalTransport(path),
        account="",
        quirks=quirks_of("local", str(path), model),
        price_provider="local",
        price_model=model,
        max_parallel=llama.SLOTS,
        no_batch_reason="A local model costs nothing and has no batch API.",
    )


def _sim_target(name: str, simulator: Callable[[str], str]) -> ResolvedModel:
    from pllm_notebook.providers.openai.chat import Chat

    kind, _, model = name.partition("/")
    if kind not in (*KEYS, "compatible"):
        raise UnknownModelError(
            f"'sim:{name}' is not simulated.{guess(kind, KEYS)} There are sim:openai, sim:anthropic, sim:google and "
            f"sim:compatible, each with /MODEL after it if you like. Nothing was sent."
        )
    maker = "openai" if kind == "compatible" else kind
    model = model or models.CHEAP[maker]
    wire = Chat("max_tokens", strict=False) if kind == "compatible" else _wire(kind, model)

    def connect() -> Transport:
        return _open(maker, Key("none"), Address(simulator(kind)))

    common: dict[str, Any] = {
        "provider": f"sim:{kind}",
        "label": f"sim:{kind}/{model}",
        "model": model,
        "wire": wire,
        "connect": connect,
        "open_batch": lambda: open_batch_api(maker, connect(), wire.path(model)),
        "batch_format": BatchFormat(maker, wire.path(model)),
        "account": "",
        "quirks": quirks_of("sim", kind, model),
        "simulated": True,
        "package": _PACKAGES[maker],
    }
    if kind == "compatible":
        return ResolvedModel(dialect=GRAMMAR, unenforced_schema=True, **common)
    return ResolvedModel(dialect=_DIALECTS[kind], price_provider=kind, price_model=model, **common)


def _wire(provider: str, model: str) -> Any:
    # Imported here so that the package loads no provider it is not asked for.
    if provider == "openai":
        from pllm_notebook.providers.openai.chat import Chat
        from pllm_notebook.providers.openai.responses import Responses

        return Responses() if models.responses_only(model) else Chat()
    if provider == "anthropic":
        from pllm_notebook.providers.anthropic.messages import Messages

        return Messages()
    from pllm_notebook.providers.google.generate import Generate

    return Generate()


def _open(provider: str, key: Key, address: Address) -> Transport:
    if provider == "openai":
        from pllm_notebook.providers.openai.connect import connect as connect_openai

        return connect_openai(key, address)
    if provider == "anthropic":
        from pllm_notebook.providers.anthropic.messages import connect as connect_anthropic

        return connect_anthropic(key, address)
    from pllm_notebook.providers.google.generate import connect as connect_google

    return connect_google(key, address)


def _key_in(*variables: str) -> Key | None:
    """Read the first of these variables that is set."""
    return next((Key(os.environ[variable]) for variable in variables if os.environ.get(variable, "").strip()), None)
