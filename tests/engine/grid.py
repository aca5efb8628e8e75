"""What the limiter's quality is measured on: modelled providers, and whole runs against them in virtual time.

python -m tests.engine.grid 0.2 --seeds 40              this share of requests is refused at random, with 64 slots
python -m tests.engine.grid 0.2 --begins 5 --rows 3000  the same, from the fifth second of a run on
python -m tests.engine.grid 0.2 --begins 5 --rpm 6000   under a limit that nothing but refusals shows
python -m tests.engine.grid 0 --rpm 120 --burst 30      a bucket of 60 requests into which two flow each second
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pllm_notebook.engine import Limiter
from tests.engine.modelled import ModelServer, lognormal
from tests.engine.perfect import Perfect, allowed_at_s
from tests.engine.virtual import Calls, dispatcher_to, run_virtual

__all__ = ["Measured", "Scenario", "forty_tokens", "measure"]

_MEDIAN_S = 0.3


def forty_tokens(rng: random.Random) -> int:
    """Lengths of answers that differ as those to the rows of a frame do."""
    return max(1, int(40 * math.exp(rng.gauss(0.0, 0.4))))


@dataclass(frozen=True)
class Scenario:
    """A provider and a run.

    Attributes:
        rows: Calls of the run, for each model.
        median_s: The median latency; latencies are lognormal.
        servers: What each model's provider has beyond that, one for each model.
        policy: Settings of the run.
    """

    rows: int = 3_000
    median_s: float = _MEDIAN_S
    servers: tuple[dict[str, Any], ...] = ({},)
    policy: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What became of one run.

    Attributes:
        took_s: Until the last call had ended.
        oracle_s: The same under the oracle.
        formula_s: The last call's admission by arithmetic, and the median latency.
        answered: Calls that ended well.
        refused: Requests that a limit refused.
        noisy: Requests that were refused whatever the limit.
        peak: The most that were in flight to one model.
    """

    took_s: float
    oracle_s: float
    formula_s: float
    answered: int
    refused: int
    noisy: int
    peak: int

    def efficiency_less(self, last_wait_s: float) -> float:
        """Return the efficiency, a wait at the run's end left out."""
        return self.oracle_s / max(self.oracle_s, self.took_s - last_wait_s)

    def by_formula_less(self, last_wait_s: float) -> float:
        """Likewise by arithmetic."""
        return self.formula_s / max(self.formula_s, self.took_s - last_wait_s)

    @property
    def efficiency(self) -> float:
        """The oracle's makespan by ours: 1 when nothing could have been quicker."""
        return self.oracle_s / self.took_s

    @property
    def by_formula(self) -> float:
        """The arithmetic's makespan by ours."""
        return self.formula_s / self.took_s


def measure(scenario: Scenario, seed: int, limiter: Callable[[], Limiter] = Limiter) -> Measured:
    """Run the scenario once with our limiter, and once with the oracle."""
    took_s, servers, calls = _run(scenario, seed, lambda server: limiter())
    oracle_s = _oracle_s(_Told(scenario), seed)
    formula_s = max(
        allowed_at_s(server, max(scenario.rows, server.admitted), server.tokens / scenario.rows) for server in servers
    )
    return Measured(
        took_s,
        oracle_s,
        formula_s + scenario.median_s,
        sum(each.kinds().count("ok") for each in calls),
        sum(server.refused for server in servers),
        sum(server.noisy for server in servers),
        max(server.peak for server in servers),
    )


class _Told:
    """A scenario, equal to those that differ in what is told alone: the oracle listens to nothing."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._same = repr(
            (
                scenario.rows,
                scenario.median_s,
                scenario.policy,
                [{name: value for name, value in server.items() if name != "tells"} for server in scenario.servers],
            )
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Told) and self._same == other._same

    def __hash__(self) -> int:
        return hash(self._same)


@functools.cache
def _oracle_s(told: _Told, seed: int) -> float:
    took_s, servers, _ = _run(told.scenario, seed, Perfect)
    refused = sum(server.refused for server in servers)
    assert refused == 0, f"the oracle was refused {refused} times"
    return took_s


def _run(
    scenario: Scenario, seed: int, limiter: Callable[[ModelServer], Limiter]
) -> tuple[float, list[ModelServer], list[Calls]]:
    async def main() -> tuple[float, list[ModelServer], list[Calls]]:
        servers, runs, dispatchers = [], [], []
        for each in scenario.servers:
            server = ModelServer(rng=random.Random(seed), latency_s=lognormal(scenario.median_s), **each)
            dispatcher = dispatcher_to(server, limiter(server))
            calls = Calls([str(n) for n in range(scenario.rows)], **scenario.policy)
            dispatcher.attach(calls.queue)
            servers.append(server)
            runs.append(calls)
            dispatchers.append(dispatcher)
        for calls in runs:
            await calls.all()
        took_s = asyncio.get_running_loop().time()
        for dispatcher in dispatchers:
            await dispatcher.aclose()
        return took_s, servers, runs

    return run_virtual(main)


def main() -> None:
    """Print the share of the oracle's speed and the refusals of a limit, for each of many seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("share", type=float)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=1_500)
    parser.add_argument("--begins", type=float, default=0.0, metavar="SECOND", help="when the random refusals begin")
    parser.add_argument("--ends", type=float, default=math.inf, metavar="SECOND", help="when they end")
    parser.add_argument("--rpm", type=float, help="a limit that only refusals show, in place of the 64 slots")
    parser.add_argument("--burst", type=float, default=1.0, metavar="SECONDS", help="what the limit's bucket holds")
    parser.add_argument(
        "--step", type=float, nargs=3, metavar=("FROM", "TO", "FACTOR"), help="the limit is another one for a while"
    )
    parser.add_argument("--tells", default="nothing", help="what a refusal of the limit tells")
    given = parser.parse_args()
    server: dict[str, Any] = {"noise": given.share, "noise_from_s": given.begins, "noise_until_s": given.ends}
    if given.rpm is None:
        server |= {"slots": 64}
    else:
        server |= {"rpm": given.rpm, "burst_s": given.burst, "tells": given.tells, "squeeze": given.step}
    scenario = Scenario(given.rows, 0.2, (server,))
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    found = sorted((measure(scenario, seed) for seed in seeds), key=lambda one: one.efficiency)
    print(f"mean {sum(one.efficiency for one in found) / len(found):.3f}, seconds at most", end=" ")
    print(f"{max(one.took_s for one in found):.1f}, refused at most {max(one.refused for one in found)}")
    print("share, least first:", *(f"{one.efficiency:.3f}" for one in found))
    print("refused by the limit:", *sorted((one.refused for one in found), reverse=True))


if __name__ == "__main__":
    main()
