"""The providers of the makespan comparison, and the best possible time with each.

Uses only the standard library, so that it can be imported in every client's environment.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from dataclasses import dataclass
from typing import Any

__all__ = ["MEDIAN_S", "Run", "Scenario", "ideal_s", "oracle_s", "scenarios"]

MEDIAN_S = 0.3
_SIGMA = 0.5
_PER_MIN = 6000
_BUSY = {"latency_s": MEDIAN_S, "latency_sigma": _SIGMA, "burst_s": 1.0}
_SLOTS = 64


@dataclass(frozen=True)
class Run:
    """One run of a scenario.

    Attributes:
        model: The provider's name of the model.
        rows: Rows of the run, one call each.
        per_min: The model's own limit in requests per minute. None for the scenario's.
    """

    model: str
    rows: int
    per_min: float | None = None


@dataclass(frozen=True)
class Scenario:
    """One simulated provider.

    Attributes:
        name: Its letter.
        title: Its description in the table.
        sim: Options of the simulator.
        runs: The runs, all started at once.
        provider: Its wire format: "openai", "compatible", "anthropic" or "google".
        timeout_s: Seconds that every client is configured to allow for one call. None for its default.
    """

    name: str
    title: str
    sim: dict[str, Any]
    runs: tuple[Run, ...]
    provider: str = "openai"
    timeout_s: float | None = None

    @property
    def open_to_peers(self) -> bool:
        """Whether clients of OpenAI's wire format can take part."""
        return self.provider in ("openai", "compatible")


def scenarios(rows: int) -> dict[str, Scenario]:
    """Return every scenario by its letter, for runs of *rows* rows."""
    requests = {**_BUSY, "requests_per_min": _PER_MIN}
    # The period of reduced limits is in the middle for any number of rows: from 27 % to 60 % of the plain run.
    usual_s = rows / (_PER_MIN / 60)
    lean = (round(0.27 * usual_s, 2), round(0.6 * usual_s, 2), 0.5)
    one = (Run("gpt-6-luna", rows),)
    two = (Run("gpt-6-luna", rows, _PER_MIN), Run("gpt-6.1-terra", rows // 2, _PER_MIN / 2))
    both = {run.model: (run.per_min, None) for run in two}
    made = [
        Scenario("A", "requests bound, full headers", requests, one),
        Scenario(
            "B", "tokens bound, full headers", {**_BUSY, "requests_per_min": 60_000, "tokens_per_min": 690_000}, one
        ),
        Scenario("C", "as A, only retry-after on 429", {**requests, "headers": "retry_after"}, one),
        Scenario("D", "as A, nothing told but 429", {**requests, "headers": "none"}, one),
        Scenario(
            "D'",
            "as D, burst 0.2 s, refusals count",
            {**requests, "headers": "none", "burst_s": 0.2, "charge_refused": True},
            one,
        ),
        Scenario(
            "E",
            f"{_SLOTS} slots, queues, refuses nothing",
            {**_BUSY, "slots": _SLOTS},
            (Run("llama", rows),),
            "compatible",
        ),
        Scenario("F", "as A, halved for a third of the time", {**requests, "squeeze": lean}, one),
        Scenario("G", "two models, limits of their own", {**_BUSY, "limits": both}, two),
        Scenario("H", "as A, 5 % 500s, 1 % hangs", {**requests, "error_500": 0.05, "hang": 0.01}, one, timeout_s=2.0),
        Scenario("I", "as A, told Anthropic's way", requests, (Run("claude-haiku-5-5", rows),), "anthropic"),
        Scenario("J", "as A, told Google's way (429 only)", requests, (Run("gemini-3.5-flash-lite", rows),), "google"),
    ]
    return {scenario.name: scenario for scenario in made}


def ideal_s(scenario: Scenario, requests: float, tokens: float, run: Run | None = None) -> float:
    """Return the shortest time in which the server could have admitted the requests that it admitted.

    This is the earliest time at which the last request can be admitted, plus the median latency of one call; it is the
    same for every client. The last request is admitted when the buckets of requests and tokens, full at the start, have
    covered everything that was charged, and a slot is free. Answer tokens count as if they were known at the start.
    Those of the very last calls are charged too late to delay any request, a difference of at most one percent.

    Args:
        scenario: The provider.
        requests: Requests that it admitted for this client, answered or not.
        tokens: Tokens that it charged.
        run: One of several runs, whose model's limit replaces the scenario's. None for the whole scenario.

    Returns:
        Seconds. Without limits or a queue, the latency alone.
    """
    sim = scenario.sim
    per_min = run.per_min if run is not None and run.per_min else sim.get("requests_per_min")
    waits = [0.0]
    if per_min:
        waits.append(admitted_s(sim, per_min, requests))
    if sim.get("tokens_per_min"):
        waits.append(admitted_s(sim, sim["tokens_per_min"], tokens))
    if sim.get("slots"):
        # On average, a slot is busy for the mean of the lognormal latency, not its median.
        busy_s = MEDIAN_S * math.exp(_SIGMA**2 / 2)
        waits.append(max(0.0, requests - sim["slots"]) * busy_s / sim["slots"])
    return max(waits) + MEDIAN_S


def admitted_s(sim: dict[str, Any], per_min: float, amount: float) -> float:
    """Return the seconds after which a bucket that was full at the start has admitted *amount*."""
    rate = per_min / 60
    left = amount - max(rate * sim["burst_s"], 1)
    if left <= 0:
        return 0.0
    if not sim.get("squeeze"):
        return left / rate
    start_s, end_s, factor = sim["squeeze"]
    before, during = start_s * rate, (end_s - start_s) * rate * factor
    if left <= before:
        return left / rate
    if left <= before + during:
        return start_s + (left - before) / (rate * factor)
    return end_s + (left - before - during) / rate


def oracle_s(scenario: Scenario, draws: int = 200) -> float | None:
    """Return the median makespan of a client that knows every limit, over random latencies.

    It exceeds the ideal because of the slowest of the last calls. Other clients can be faster only by chance.

    Returns:
        Seconds. None if tokens or faults are decisive, or if there are several runs.
    """
    sim, run = scenario.sim, scenario.runs[0]
    if sim.get("tokens_per_min") or sim.get("error_500") or len(scenario.runs) > 1:
        return None
    random_ = random.Random(0)
    made = []
    for _ in range(draws):
        latencies = (MEDIAN_S * math.exp(_SIGMA * random_.gauss(0, 1)) for _ in range(run.rows))
        if sim.get("slots"):
            free = [0.0] * sim["slots"]
            for latency in latencies:
                heapq.heapreplace(free, free[0] + latency)
            made.append(max(free))
        else:
            per_min = sim["requests_per_min"]
            made.append(max(admitted_s(sim, per_min, nth + 1) + latency for nth, latency in enumerate(latencies)))
    return statistics.median(made)
