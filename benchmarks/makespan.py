"""Duration of a whole run: this package and other clients, with providers whose limits the clients do not know.

    python benchmarks/makespan.py [--scenarios A B ...] [--times 5] [--peers none|all|NAME ...]
                                  [--peer-times 1] [--rows 3000] [--json FILE]

Each run has a freshly reset server in one process and a client in another, with an empty cache, so that nothing is
learned from earlier runs. All requests go over HTTP on loopback through the real SDKs; nothing is paid.
`peers/work.py` documents what is timed, and `scenarios.ideal_s` the ideal with which a run is compared. Prints a
table for each scenario (medians; lowest and highest efficiency) and writes every run's figures as JSON.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from clients import OURS, PEERS, Client
from scenarios import Scenario, ideal_s, oracle_s, scenarios

from pllm_notebook.sim import Simulator

# The slowest known peer needs less than six minutes. A hanging one must not block the others.
MOST_S = 900.0


def once(client: Client, scenario: Scenario) -> list[dict[str, Any]]:
    """Do the work once, and return one record for each run of the scenario."""
    client.prepare()
    with Simulator(**scenario.sim, answers=client.answers) as sim:
        line = client.run(sim.base_url(scenario.provider), scenario, MOST_S)
        seen = sim.stats()
    ended = line.get("runs") or [{"answered": 0, "wall_s": None, "raised": line.get("raised", "")}] * len(scenario.runs)
    tokens = seen.input_tokens + seen.output_tokens
    records = []
    for run, end in zip(scenario.runs, ended, strict=True):
        alone = len(scenario.runs) == 1
        # The server counts all models together. Scenarios with several runs have no faults: each row is one request.
        ideal = ideal_s(scenario, seen.admitted if alone else end["answered"], tokens if alone else 0, run)
        records.append(
            {
                "scenario": scenario.name,
                "client": client.name,
                "model": run.model,
                "rows": run.rows,
                "answered": end["answered"],
                "raised": end["raised"],
                "wall_s": end["wall_s"],
                "ideal_s": ideal,
                "efficiency": ideal / end["wall_s"] if end["wall_s"] and end["answered"] else None,
                "cpu_s": line.get("cpu_s"),
                "requests": seen.requests,
                "admitted": seen.admitted,
                "refused": seen.refused_429,
                "peak_in_flight": seen.peak_in_flight,
                "paid_twice": seen.repeated,
                "tokens": tokens,
            }
        )
    return records


def headline(scenario: Scenario) -> str:
    """Return the scenario's description, and the time that a client would need that knows every limit."""
    words = f"\n### {scenario.name}: {scenario.title}\n"
    best = oracle_s(scenario)
    if best is None:
        return words
    ideal = ideal_s(scenario, scenario.runs[0].rows, 0)
    return f"{words}\nIdeal {ideal:.1f} s; a client that knows every limit needs {best:.1f} s ({ideal / best:.3f}).\n"


def table(scenario: Scenario, records: Sequence[dict[str, Any]]) -> str:
    """Return the table of one scenario, with a line for each client and run, in order."""
    lines = [
        "| client | rows answered | efficiency (least to most) | wall, s | refused | most in flight | client CPU, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for client, model in dict.fromkeys((record["client"], record["model"]) for record in records):
        of = [record for record in records if (record["client"], record["model"]) == (client, model)]
        name = client if len(scenario.runs) == 1 else f"{client}, {model}"
        raised = " ".join(sorted({f"({record['raised']})" for record in of if record["raised"]}))
        answered = f"{_median(of, 'answered', ',.0f')} of {of[0]['rows']:,}"
        shares = [record["efficiency"] for record in of if record["efficiency"] is not None]
        span = f" ({min(shares):.3f} to {max(shares):.3f})" if len(shares) > 1 else ""
        cells = [
            name,
            f"{answered} {raised}".rstrip(),
            _median(of, "efficiency", ".3f") + span,
            _median(of, "wall_s", ".1f"),
            _median(of, "refused", ",.0f"),
            _median(of, "peak_in_flight", ",.0f"),
            _median(of, "cpu_s", ".1f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _median(records: Sequence[dict[str, Any]], name: str, form: str) -> str:
    values = [record[name] for record in records if record[name] is not None]
    return format(statistics.median(values), form) if values else "-"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenarios", nargs="+", default=None, help="letters; all by default")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--peers", nargs="+", default=["none"], help="none, all, or of " + ", ".join(PEERS))
    parser.add_argument("--peer-times", type=int, default=1)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    known = scenarios(given.rows)
    peers = {"none": [], "all": list(PEERS)}.get(given.peers[0], given.peers)
    for name in [*(given.scenarios or ()), *peers]:
        if name not in known and name not in PEERS:
            parser.error(f"{name!r} is no scenario ({', '.join(known)}) and no peer ({', '.join(PEERS)})")

    everything: list[dict[str, Any]] = []
    for letter in given.scenarios or known:
        scenario = known[letter]
        print(headline(scenario))
        records, skipped = [], []
        rounds = [(OURS, given.times)]
        for name in peers if scenario.open_to_peers else ():
            if reason := PEERS[name].skip(scenario):
                skipped.append(f"{PEERS[name].name}: {reason}")
            else:
                rounds.append((PEERS[name], given.peer_times))
        for nth in range(max(times for _, times in rounds)):
            for client, times in rounds:
                if nth < times:
                    records += once(client, scenario)
        print(table(scenario, records))
        if skipped:
            print("\nNot run: " + "; ".join(skipped) + ".")
        sys.stdout.flush()
        everything += records
        if given.json is not None:
            # Write after each scenario, so that a stopped comparison, which takes an hour, keeps its results.
            machine = {"python": platform.python_version(), "rows": given.rows}
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_bytes(orjson.dumps({**machine, "runs": everything}, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
