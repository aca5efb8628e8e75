"""A session of a program in words: the same for the widget, the saved lines and the terminal."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pllm_notebook.notebook import progress_format
from pllm_notebook.sessions.dashboard import STATES, AgentStatus, SessionStatus

__all__ = ["MAX_AGENTS", "agent", "cost", "counts", "label", "lines", "models", "omitted_agents"]

MAX_AGENTS = 12
"""A program may have an agent for each of a thousand things."""

_MAX_MODELS = 4
_MAX_PARTS = 3
_SIGNS = {"running": "…", "done": "✓", "paused": "■", "failed": "✗"}


def lines(status: SessionStatus) -> list[str]:
    """Say how a session stands: all of it in a line, its calls in the next, and one for each of several agents.

    That answers are invented stands near the beginning, since a narrow screen shows no more.
    """
    s = status
    marked = f"{s.strategy}, SIMULATED" if s.simulated else s.strategy
    told = f"{s.done:,} / {s.total:,} calls answered · {cost(s)} · {progress_format.format_duration(s.elapsed_s)}"
    found = [f"{_SIGNS[s.state]} {label(s)} ({marked}): {told}"]
    if s.counts:
        found.append("  " + " · ".join([*counts(s), models(s)]))
    if len(s.agents) > 1:
        found += [f"  {agent(each)}" for each in s.agents[:MAX_AGENTS]] + omitted_agents(s)
    return found


def cost(status: SessionStatus) -> str:
    """Say what a session has paid, and what all its answers cost where earlier runs and their jobs paid for some."""
    paid, total = status.cost_usd, status.total_cost_usd
    earlier = total is not None and paid is not None and total > paid * 1.000001
    return progress_format.format_usd(paid) + (f" ({progress_format.format_usd(total)} in all)" if earlier else "")


def label(status: SessionStatus) -> str:
    """Name a session: its directory as it is seen from here, or the end of it."""
    path = Path(status.label)
    with suppress(ValueError):  # elsewhere
        path = path.relative_to(Path.cwd())
    return str(path) if len(path.parts) <= _MAX_PARTS else "/".join(["…", *path.parts[-_MAX_PARTS:]])


def counts(status: SessionStatus) -> list[str]:
    """Say how many calls are in each state that there are some in."""
    return [f"{status.counts[state]:,} {state}" for state in STATES if status.counts.get(state)]


def models(status: SessionStatus) -> str:
    """Name the models, the first few of many."""
    named = list(status.models[:_MAX_MODELS])
    more = len(status.models) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def agent(status: AgentStatus) -> str:
    """Say how an agent stands."""
    failed = f" · {status.failed:,} failed" if status.failed else ""
    return f"{status.name}: {status.done:,} / {status.calls:,}{failed}"


def omitted_agents(status: SessionStatus) -> list[str]:
    """Say how many agents have no line of their own."""
    more = len(status.agents) - MAX_AGENTS
    return [f"  and {more:,} more agents"] if more > 0 else []
