"""A session of a program in words: the same for the widget, the saved lines and the terminal."""

from __future__ import annotations

from pllm_notebook.notebook import wording
from pllm_notebook.pipeline.dashboard import STATES, AgentStanding, Standing

__all__ = ["MOST_AGENTS", "agent", "counts", "headline", "left_out", "lines", "models"]

MOST_AGENTS = 12
"""A program may have an agent for each of a thousand things."""

_MOST_MODELS = 4
_SIGNS = {"running": "…", "done": "✓", "paused": "■", "failed": "✗"}


def lines(standing: Standing) -> list[str]:
    """Say how a session stands: a line of its own, one for each agent where there are several, and the news."""
    found = [f"{_SIGNS[standing.state]} {headline(standing)}"]
    if len(standing.agents) > 1:
        found += [f"  {agent(each)}" for each in standing.agents[:MOST_AGENTS]] + left_out(standing)
    return [*found, *([f"  {standing.note}"] if standing.note else [])]


def headline(standing: Standing) -> str:
    """Say all of it in one line: "enzymes (async): 7 / 12 calls answered · 3 cached · 4 stored · 5 sent · …"."""
    s = standing
    parts = [f"{s.label} ({s.strategy}): {s.done:,} / {s.total:,} calls answered", *counts(s)]
    parts += [wording.span(s.elapsed_s), wording.money(s.cost_usd)]
    return " · ".join([*parts, *([models(s)] if s.models else [])])


def counts(standing: Standing) -> list[str]:
    """Say how many calls are in each state that there are some in."""
    return [f"{standing.counts[state]:,} {state}" for state in STATES if standing.counts.get(state)]


def models(standing: Standing) -> str:
    """Name the models, and say plainly where answers are invented."""
    named = list(standing.models[:_MOST_MODELS])
    more = len(standing.models) - len(named)
    words = ", ".join(named) + (f" and {more:,} more" if more else "")
    return f"{words} SIMULATED" if standing.simulated else words


def agent(standing: AgentStanding) -> str:
    """Say how an agent stands."""
    failed = f" · {standing.failed:,} failed" if standing.failed else ""
    return f"{standing.name}: {standing.done:,} / {standing.calls:,}{failed}"


def left_out(standing: Standing) -> list[str]:
    """Say how many agents have no line of their own."""
    more = len(standing.agents) - MOST_AGENTS
    return [f"  and {more:,} more agents"] if more > 0 else []
