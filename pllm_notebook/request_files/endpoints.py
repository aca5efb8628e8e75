"""Resolve the lines of a request file to their models and endpoints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from pllm_notebook.credentials import Address, Key
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import start_simulator
from pllm_notebook.providers import COMPATIBLE, ResolvedModel, is_hosted, provider_of, registry, resolve, speaker_of
from pllm_notebook.request_files.line_formats import RequestFileLine
from pllm_notebook.settings import current

__all__ = ["EndpointModel", "EndpointResolver", "body_for"]

_ENDPOINTS = ("/chat/completions", "/responses", "/messages", "/embeddings", "/completions")


@dataclass(frozen=True)
class EndpointModel(ResolvedModel):
    """A model at an endpoint that is not its default, with a separate dispatcher."""

    def __post_init__(self) -> None:
        super().__post_init__()
        key = (self.provider, self.account, f"{self.model} {self.wire.format_name}")
        object.__setattr__(self, "dispatcher_key", key)


class EndpointResolver:
    """A resolver of each line's model. Every model is resolved only once.

    Args:
        client: A provider, or a configured server or client, for lines of its format whose model names no provider;
            "sim:openai" and other simulators take lines of every format. None for the provider of each line's format.
        model: Model for lines without one. None to require a model in each line.
        request_url: An endpoint of *client*'s provider, or of an OpenAI-compatible server to use instead of *client*.
            None for the provider's default.
        key: API key of *client*, or of the server. None for the environment's.

    Raises:
        UsageError: For an unknown client, model or address. Nothing was sent.

    Attributes:
        targets: Resolved models, or the reason why there is none, by endpoint and name.
    """

    def __init__(self, client: str | None, model: str | None, request_url: str | None, key: Key | None) -> None:
        settings = current()
        self._clients = settings.clients
        self._servers = dict(settings.servers)
        self._home, self.bare_endpoint = client, ""
        if request_url is not None:
            self._home, self.bare_endpoint = self._at(request_url, client)
        known = {*registry.names(), *self._servers, *self._clients}
        if self._home is not None and self._home.partition(":")[0] not in known:
            raise UsageError(
                f"client is {self._home!r}; expected one of {', '.join(sorted(known))}, sim:openai, or a name from "
                f"pllm.configure(servers=…, clients=…). Nothing was sent."
            )
        self._known = known
        self._model = model
        self._keys = {} if key is None else {self._home or COMPATIBLE.name: key}
        self.targets: dict[tuple[str, str], ResolvedModel | str] = {}
        if model is not None:
            self._resolved(self._named(model, ""))

    def of(self, line: RequestFileLine) -> ResolvedModel | str:
        """Return the model of a line, or the reason why it cannot be sent."""
        asked = line.endpoint or self._endpoint_of(line)
        where = (asked, line.model)
        found = self.targets.get(where)
        if found is None:
            found = self.targets[where] = self._find(asked, line.model)
        if isinstance(found, ResolvedModel) and not isinstance(line.body, str):
            needed = found.wire.input_field
            if not line.body.get(needed):
                return f"{found.label} takes a request with {needed!r}, which the line does not have."
        return found

    def _find(self, endpoint: str, model: str) -> ResolvedModel | str:
        name = model or self._model
        if name is None:
            return "The line names no model: give model=…, for all such lines."
        try:
            target = self._resolved(self._named(name, endpoint))
        except UsageError as error:
            return str(error).replace(" Nothing was sent.", "")
        home = self._home
        if home is not None and home in self._known and target.provider != home:
            return (
                f"The line is for {target.label}, but only the account of client {home!r} is billed. Leave client "
                f"out to let each line choose."
            )
        spoken = target.wire.format_name
        if not endpoint or spoken == endpoint:
            return target
        wire = target.api.wire_named(endpoint)
        if wire is not None:
            values = {each.name: getattr(target, each.name) for each in fields(target) if each.init}
            return EndpointModel(**{**values, "wire": wire})
        written = speaker_of(endpoint).name
        return f"The line is written for {written}, and {target.label} speaks {target.api.name}'s format."

    def _resolved(self, name: str) -> ResolvedModel:
        return resolve(
            name,
            servers=self._servers,
            clients=self._clients,
            keys=self._keys,
            simulator=lambda wire: start_simulator().base_url(wire),
        )

    def _endpoint_of(self, line: RequestFileLine) -> str:
        """Return the endpoint of a bare body, "" for the default endpoint of its model."""
        if line.form == "bare" and isinstance(line.body, dict):
            if "contents" in line.body:
                return "generate"
            if self.bare_endpoint:
                return self.bare_endpoint
        return ""

    def _named(self, model: str, endpoint: str) -> str:
        """Return the name of a model with its provider."""
        before, colon, _ = model.partition(":")
        if colon and before in self._known:
            return model
        home, shown = self._home, provider_of(model)
        maker = speaker_of(endpoint).name if endpoint else None
        if home is not None and home.startswith("sim"):
            # With a simulator as the client, no line goes to a real provider.
            invented = home if maker in (None, self._maker(home)) else f"sim:{maker}"
            return f"{invented}/{model}"
        if home is not None and maker in (None, self._maker(home)):
            elsewhere = maker is None and is_hosted(home) and shown is not None
            return f"{shown if elsewhere else home}:{model}"
        # Most servers accept a bare body with an unknown model.
        return f"{shown or maker or COMPATIBLE.name}:{model}"

    def _maker(self, home: str) -> str:
        if is_hosted(home):
            return home
        if home in self._servers:
            return COMPATIBLE.name
        model = home + ("/" if home.startswith("sim:") else ":") + COMPATIBLE.cheap_model
        return self._resolved(model).api.name

    def _at(self, url: str, client: str | None) -> tuple[str | None, str]:
        """Return the name of the server at *url*, and the endpoint in its path."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UsageError("request_url is an address like https://…/v1/chat/completions. Nothing was sent.")
        end = next((end for end in _ENDPOINTS if parts.path.rstrip("/").endswith(end)), "")
        endpoint = {"/responses": "responses", "/chat/completions": "chat"}.get(end, "")
        if end in ("/embeddings", "/completions"):
            raise UsageError(
                f"request_url ends in {end}, which is not supported: text is requested from /chat/completions, "
                f"/responses or /messages. Nothing was sent."
            )
        others = [provider for provider in registry.hosted() if provider is not COMPATIBLE]
        for provider in (COMPATIBLE, *others):
            if provider.api_host and provider.api_host == parts.hostname:
                return client or provider.name, endpoint
        if client in [provider.name for provider in others] or end == "/messages":
            owners = " or ".join(f"{provider.title}'s" for provider in others)
            variables = " or ".join(provider.address_variable for provider in others)
            raise UsageError(
                f"request_url names a server of the {COMPATIBLE.title} format; another address for {owners} is given "
                f"by {variables}. Nothing was sent."
            )
        base = Address(url.partition("?")[0].rstrip("/").removesuffix(end))
        for name, address in self._servers.items():
            if Address(address).rstrip("/") == base:
                return name, endpoint
        # Named by its host, which is never a provider's name, so that its answers have separate cache entries.
        name = (urlsplit(base).netloc or "server").replace(":", "-")
        self._servers[name] = base
        return name, endpoint


def body_for(line: RequestFileLine, target: ResolvedModel) -> dict[str, Any]:
    """Return the body of a line as it is sent, with the provider's name of the model."""
    assert isinstance(line.body, dict)
    if target.wire.model_in_path:
        return {name: value for name, value in line.body.items() if name != "model"}
    return {"model": target.model, **line.body} | {"model": target.model}
