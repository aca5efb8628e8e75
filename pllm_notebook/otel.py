"""Spans and metrics for OpenTelemetry, by its semantic conventions for generative AI (extra `otel`).

    from pllm_notebook.otel import Telemetry

    pllm.configure(on_event=Telemetry())

The application decides where they are exported: it sets OpenTelemetry's global providers, or passes its own here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pllm_notebook.events import CallEnded, Event, RunEnded, RunStarted
from pllm_notebook.exceptions import MissingPackageError, UsageError
from pllm_notebook.providers import registry

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["Telemetry"]

_SCOPE = "pllm_notebook"
_NS = 1_000_000_000


class Telemetry:
    """Record a span for each run and call, and metrics of tokens, duration, cost, requests and rows.

    A call's span is `chat MODEL`, a child of its run's `pllm.run`, with the attributes `gen_ai.*` of version 1.37 of
    the conventions, which are not final. The histograms `gen_ai.client.token.usage` and
    `gen_ai.client.operation.duration` follow the conventions. The counters `pllm.cost` (US dollars),
    `pllm.requests.repeated` (requests that were refused or failed and sent again) and `pllm.rows` (by `pllm.outcome`)
    are this package's. Cached answers are not calls, but `pllm.rows` counts them. A call that shared another run's
    request has a span with `pllm.joined`; its tokens, duration and cost are only in the other run's span.

    Args:
        tracer_provider: None for OpenTelemetry's global one.
        meter_provider: None for OpenTelemetry's global one.
        prompts: Whether spans contain prompts and answers as text, in `gen_ai.input.messages` and
            `gen_ai.output.messages`.

    Raises:
        MissingPackageError: If the extra `otel` is not installed.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        prompts: bool = False,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            raise MissingPackageError("pllm_notebook.otel", "opentelemetry-api", "otel") from None
        for name, provider, method in (
            ("tracer_provider", tracer_provider, "get_tracer"),
            ("meter_provider", meter_provider, "get_meter"),
        ):
            if provider is not None and not hasattr(provider, method):
                raise UsageError(f"{name} is one of OpenTelemetry's, or None for the application's, not {provider!r}.")
        if not isinstance(prompts, bool):
            raise UsageError(f"prompts is True or False, not {prompts!r}.")
        self._trace = trace
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of a call, by type.")
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Time that the last request of a call took."
        )
        self._cost = meter.create_counter("pllm.cost", "USD", "What calls cost, where that is known.")
        self._repeated = meter.create_counter("pllm.requests.repeated", "{request}", "Requests that were sent again.")
        self._rows = meter.create_counter("pllm.rows", "{row}", "Rows of runs, by how they ended.")
        self._prompts = prompts
        self._runs: dict[str, Span] = {}

    def __call__(self, event: Event) -> None:
        """Record one event."""
        if isinstance(event, RunStarted):
            about: dict[str, Any] = {"pllm.run": event.run, "pllm.rows": event.rows, "pllm.mode": event.mode}
            self._runs[event.run] = self._tracer.start_span(
                "pllm.run", start_time=round(event.at * _NS), attributes={**about, **_model(event.model)}
            )
        elif isinstance(event, CallEnded):
            self._record_call(event)
        else:
            self._record_end(event)

    def _record_call(self, event: CallEnded) -> None:
        model = _model(event.model)
        attributes: dict[str, Any] = {"gen_ai.operation.name": "chat", **model, "pllm.requests": event.requests}
        error = {} if event.failure is None else {"error.type": event.failure}
        if event.served:
            attributes["gen_ai.response.model"] = event.served
            attributes["gen_ai.response.finish_reasons"] = [event.finish]
        if event.request_id:
            attributes["gen_ai.response.id"] = event.request_id
        if event.joined:
            attributes["pllm.joined"] = True
        else:
            attributes |= self._measure(event, {"gen_ai.operation.name": "chat", **model}, error)
        if self._prompts:
            attributes |= _texts(event)
        run = self._runs.get(event.run)
        span = self._tracer.start_span(
            f"chat {model['gen_ai.request.model']}",
            context=None if run is None else self._trace.set_span_in_context(run),
            kind=self._trace.SpanKind.CLIENT,
            start_time=round((event.at - event.latency_s) * _NS),
            attributes=attributes | error,
        )
        if event.failure is not None:
            span.set_status(self._trace.StatusCode.ERROR, event.failure)
        span.end(round(event.at * _NS))

    def _measure(self, event: CallEnded, shared: dict[str, str], error: dict[str, str]) -> dict[str, Any]:
        """Record the metrics of a request, and return the corresponding attributes of its span."""
        attributes: dict[str, Any] = {}
        for kind, count in (("input", event.input_tokens), ("output", event.output_tokens)):
            if count is not None:
                attributes[f"gen_ai.usage.{kind}_tokens"] = count
                self._tokens.record(count, {**shared, "gen_ai.token.type": kind})
        if event.cost_usd is not None:
            attributes["pllm.cost_usd"] = event.cost_usd
            self._cost.add(event.cost_usd, shared)
        if event.requests > 1:
            self._repeated.add(event.requests - 1, shared)
        if not event.batch:  # the wait for a job does not measure the model
            self._duration.record(event.latency_s, {**shared, **error})
        return attributes

    def _record_end(self, event: RunEnded) -> None:
        model = _model(event.model)
        for outcome in ("answered", "cached", "failed", "not_sent"):
            if count := getattr(event, outcome):
                self._rows.add(count, {**model, "pllm.outcome": outcome})
        span = self._runs.pop(event.run, None)
        if span is None:
            return
        span.set_attribute("pllm.state", event.state)
        if event.cost_usd is not None:
            span.set_attribute("pllm.cost_usd", event.cost_usd)
        if event.state == "failed":
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(round(event.at * _NS))


def _model(label: str) -> dict[str, str]:
    provider, _, name = label.partition(":")
    known = registry.find(provider)
    called = provider if known is None else known.telemetry_name or provider
    return {"gen_ai.provider.name": called, "gen_ai.request.model": name}


def _texts(event: CallEnded) -> dict[str, str]:
    """Return prompt and answer as messages in the conventions' form: JSON with text parts."""
    texts = {}
    if event.prompt is not None:
        texts["gen_ai.input.messages"] = _message("user", event.prompt())
    if event.answer:
        texts["gen_ai.output.messages"] = _message("assistant", event.answer)
    return texts


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)
