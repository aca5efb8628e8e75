"""Events of runs and calls, and what OpenTelemetry gets of them, by its SDK's exporters in memory."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import pllm_notebook as pllm
from pllm_notebook.events import CallEnded, Event, RunEnded, RunStarted
from pllm_notebook.exceptions import MissingPackageError
from pllm_notebook.otel import Telemetry
from pllm_notebook.sim import SimAnswer

ROWS = pd.DataFrame({"text": ["a", "b", "bad", "a"]})


class Heard:
    """Listens until a number of runs has ended."""

    def __init__(self, also: Callable[[Event], object] | None = None) -> None:
        self.events: list[Event] = []
        self._also = also
        self._ended = threading.Semaphore(0)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if self._also is not None:
            self._also(event)
        if isinstance(event, RunEnded):
            self._ended.release()

    def wait(self) -> list[Event]:
        assert self._ended.acquire(timeout=60)
        return self.events

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(autouse=True)
def simulated(cache_dir: object) -> None:
    refusal = SimAnswer.refusal("no")
    pllm.configure(sim={"answers": lambda request: refusal if "bad" in request.prompt else "fine"}, model="sim:openai")


def ask(heard: Heard, **options: Any) -> Any:
    with pytest.warns(UserWarning, match="1 of 4 rows failed"):
        out = ROWS.llm.complete("Say {text}", **options)
    heard.wait()
    return out


def test_a_run_is_told_from_its_start_to_its_end(simulated: None) -> None:
    heard = Heard()
    pllm.configure(on_event=heard)

    out = ask(heard)

    first, *calls, last = heard.events
    assert isinstance(first, RunStarted)
    assert (first.rows, first.mode, first.run) == (4, "async", out.attrs["pllm_run"])
    assert len(calls) == 3  # equal rows are one call
    assert {call.prompt() for call in heard.of(CallEnded)} == {"Say a", "Say b", "Say bad"}
    good = [call for call in heard.of(CallEnded) if call.answer == "fine"]
    assert len(good) == 2
    assert all(call.input_tokens and call.output_tokens and call.latency_s >= 0 for call in good)
    assert isinstance(last, RunEnded)
    assert (last.state, last.answered, last.cached, last.failed) == ("done", 3, 0, 1)


def test_answers_of_the_cache_are_counted_and_no_calls() -> None:
    first = _listening()
    ask(first)
    again = _listening()

    ask(again)

    assert [call for call in again.of(CallEnded) if call.answer] == []
    assert again.of(RunEnded)[0].cached == 3
    assert first.of(RunEnded)[0].cached == 0


def _listening() -> Heard:
    heard = Heard()
    pllm.configure(on_event=heard)
    return heard


def test_an_event_that_is_printed_shows_no_text() -> None:
    heard = Heard()
    pllm.configure(on_event=heard)

    ask(heard)

    shown = "".join(map(repr, heard.events))
    (call, *_) = heard.of(CallEnded)
    assert call.prompt().startswith("Say ")
    assert "CallEnded(" in shown
    assert not any(text in shown for text in ("Say", "fine"))


def test_a_retry_starts_and_ends_again() -> None:
    heard = _listening()
    run = ROWS.llm.submit_text("Say {text}")
    run.wait()
    heard.wait()

    run.retry(["refusal"]).wait()
    heard.wait()

    assert [type(event).__name__ for event in heard.events if not isinstance(event, CallEnded)] == [
        "RunStarted",
        "RunEnded",
    ] * 2


def test_a_listener_that_raises_is_called_no_more_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def breaks(event: Event) -> None:
        broken.append(event)
        raise ValueError("mine")

    broken: list[Event] = []
    heard = Heard()
    pllm.configure(on_event=[breaks, heard])

    with caplog.at_level(logging.ERROR, logger="pllm_notebook"):
        out = ask(heard)

    assert out["answer"].notna().sum() == 3
    assert len(broken) == 1
    assert len(heard.events) == 5
    assert "on_event raised" in caplog.text


def test_a_listener_that_hangs_delays_no_run() -> None:
    go_on = threading.Event()
    pllm.configure(on_event=lambda event: go_on.wait(60))
    try:
        with pytest.warns(UserWarning, match="1 of 4 rows failed"):
            out = ROWS.llm.complete("Say {text}")
    finally:
        go_on.set()

    assert out["answer"].notna().sum() == 3


async def awaited(event: object) -> None:
    """Would never be awaited."""


@pytest.mark.parametrize("value", [3, "print", [print, None], awaited, [print, awaited]])
def test_what_is_no_function_is_refused(value: object) -> None:
    with pytest.raises(pllm.PllmError, match="on_event is a function, or a list of functions"):
        pllm.configure(on_event=value)  # type: ignore[arg-type]


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(MissingPackageError, match="otel"):
        Telemetry()


@pytest.fixture
def exported() -> tuple[InMemorySpanExporter, InMemoryMetricReader, Callable[..., Telemetry]]:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    return spans, reader, lambda **options: Telemetry(tracers, meters, **options)


def test_spans_follow_the_conventions_and_hold_no_text(exported: Any) -> None:
    spans, _, telemetry = exported
    heard = Heard(telemetry())
    pllm.configure(on_event=heard)

    ask(heard)

    *calls, run = spans.get_finished_spans()
    assert run.name == "pllm.run"
    assert run.attributes["pllm.state"] == "done"
    assert {span.name for span in calls} == {f"chat {run.attributes['gen_ai.request.model']}"}
    assert all(span.parent.span_id == run.context.span_id for span in calls)
    assert all(span.kind.name == "CLIENT" and span.end_time >= span.start_time for span in calls)
    good = [span for span in calls if span.status.is_ok or span.status.is_unset]
    assert all(span.attributes["gen_ai.operation.name"] == "chat" for span in good)
    assert all(span.attributes["gen_ai.usage.output_tokens"] > 0 for span in good)
    assert "Say" not in "".join(span.to_json() for span in spans.get_finished_spans())
    assert "fine" not in "".join(span.to_json() for span in spans.get_finished_spans())


def test_text_is_in_spans_where_it_is_asked_for(exported: Any) -> None:
    spans, _, telemetry = exported
    heard = Heard(telemetry(prompts=True))
    pllm.configure(on_event=heard)

    ask(heard)

    texts = [span.attributes.get("gen_ai.input.messages", "") for span in spans.get_finished_spans()]
    assert '[{"role": "user", "parts": [{"type": "text", "content": "Say a"}]}]' in texts


def test_metrics_count_tokens_time_and_rows(exported: Any) -> None:
    _, reader, telemetry = exported
    heard = Heard(telemetry())
    pllm.configure(on_event=heard)

    ask(heard)

    (resource,) = reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    metrics = {metric.name: metric for metric in scope.metrics}
    assert {"gen_ai.client.token.usage", "gen_ai.client.operation.duration", "pllm.rows"} <= set(metrics)
    rows = {point.attributes["pllm.outcome"]: point.value for point in metrics["pllm.rows"].data.data_points}
    assert rows == {"answered": 3, "failed": 1}
    points = metrics["gen_ai.client.token.usage"].data.data_points
    used = {point.attributes["gen_ai.token.type"]: point.sum for point in points}
    calls = heard.of(CallEnded)
    assert used["input"] == sum(call.input_tokens or 0 for call in calls)
    assert metrics["gen_ai.client.operation.duration"].unit == "s"


def _in_flight(run: pllm.Run) -> None:
    """Wait until a run's only call is on the wire."""
    until = time.monotonic() + 60
    while run.progress().in_flight != 1:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_call_that_two_runs_share_is_counted_once(exported: Any) -> None:
    spans, reader, telemetry = exported
    heard, go_on = Heard(telemetry()), threading.Event()
    pllm.configure(sim={"answers": lambda request: go_on.wait(60) and "fine"}, on_event=heard)
    row = pd.DataFrame({"text": ["a"]})

    runs = []
    for _ in range(2):
        runs.append(row.llm.submit_text("Say {text}"))
        _in_flight(runs[-1])
    go_on.set()
    assert [run.result()["answer"].tolist() for run in runs] == [["fine"], ["fine"]]
    heard.wait()
    heard.wait()

    calls = sorted(heard.of(CallEnded), key=lambda call: call.joined)
    assert [call.joined for call in calls] == [False, True]
    assert calls[0].input_tokens == calls[1].input_tokens
    made = [span.attributes for span in spans.get_finished_spans() if span.name.startswith("chat ")]
    assert sorted(attributes.get("pllm.joined", False) for attributes in made) == [False, True]
    assert all(("pllm.cost_usd" in attributes) is ("pllm.joined" not in attributes) for attributes in made)
    (resource,) = reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    points = {metric.name: metric.data.data_points for metric in scope.metrics}
    used = {point.attributes["gen_ai.token.type"]: point for point in points["gen_ai.client.token.usage"]}
    assert (used["input"].sum, used["input"].count) == (calls[0].input_tokens, 1)
    assert sum(point.value for point in points["pllm.cost"]) == pytest.approx(calls[0].cost_usd)
    assert sum(point.count for point in points["gen_ai.client.operation.duration"]) == 1
