"""A session of a program in words: the same for the widget, the saved lines and the terminal."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pllm_notebook.notebook import wording
from pllm_notebook.pipeline.dashboard import STATES, AgentStanding, Standing

__all__ = ["MOST_AGENTS", "agent", "cost", "counts", "label", "left_out", "lines", "models"]

MOST_AGENTS = 12
"""A program may have an agent for each of a thousand things."""

_MOST_MODELS = 4
_MOST_PARTS = 3
_SIGNS = {"running": "…", "done": "✓", "paused": "■", "failed": "✗"}


def lines(standing: Standing) -> list[str]:
    """Say how a session stands: all of it in a line, its calls in the next, and one for each of several agents.

    That answers are invented stands near the beginning, since a narrow screen shows no more.
    """
    s = standing
    marked = f"{s.strategy}, SIMULATED" if s.simulated else s.strategy
    told = f"{s.done:,} / {s.total:,} calls answered · {cost(s)} · {wording.span(s.elapsed_s)}"
    found = [f"{_SIGNS[s.state]} {label(s)} ({marked}): {told}"]
    if s.counts:
        found.append("  " + " · ".join([*counts(s), models(s)]))
    if len(s.agents) > 1:
        found += [f"  {agent(each)}" for each in s.agents[:MOST_AGENTS]] + left_out(s)
    return found


def cost(standing: Standing) -> str:
    """Say what a session has paid, and what all its answers cost where earlier runs and their jobs paid for some."""
    paid, total = standing.cost_usd, standing.total_cost_usd
    earlier = total is not None and paid is not None and total > paid * 1.000001
    return wording.money(paid) + (f" ({wording.money(total)} in all)" if earlier else "")


def label(standing: Standing) -> str:
    """Name a session: its directory as it is seen from here, or the end of it."""
    path = Path(standing.label)
    with suppress(ValueError):  # elsewhere
        path = path.relative_to(Path.cwd())
    return str(path) if len(path.parts) <= _MOST_PARTS else "/".join(["…", *path.parts[-_MOST_PARTS:]])


def counts(standing: Standing) -> list[str]:
    """Say how many calls are in each state that there are some in."""
    return [f"{standing.counts[state]:,} {state}" for state in STATES if standing.counts.get(state)]


def models(standing: Standing) -> str:
    """Name the models, the first few of many."""
    named = list(standing.models[:_MOST_MODELS])
    more = len(standing.models) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def agent(standing: AgentStanding) -> str:
    """Say how an agent stands."""
    failed = f" · {standing.failed:,} failed" if standing.failed else ""
    return f"{standing.name}: {standing.done:,} / {standing.calls:,}{failed}"


def left_out(standing: Standing) -> list[str]:
    """Say how many agents have no line of their own."""
    more = len(standing.agents) - MOST_AGENTS
    return [f"  and {more:,} more agents"] if more > 0 else []
