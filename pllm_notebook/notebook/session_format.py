"""A session as text, shared by the widget, the saved lines and the terminal."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pllm_notebook.notebook import progress_format
from pllm_notebook.sessions import STATES, AgentStatus, SessionStatus

__all__ = ["MAX_AGENTS", "agent", "cost", "counts", "label", "lines", "models", "omitted_agents"]

MAX_AGENTS = 12
"""Maximum number of agents with their own line; a program may have a thousand."""

_MAX_MODELS = 4
_MAX_PARTS = 3
_SIGNS = {"running": "…", "done": "✓", "paused": "■", "failed": "✗"}


def lines(status: SessionStatus) -> list[str]:
    """Return a session's status: a line for the session, one for its calls, and one per agent if there are several.

    SIMULATED is near the beginning, because a narrow screen cuts lines off.
    """
    s = status
    marked = f"{s.strategy}, SIMULATED" if s.simulated else s.strategy
    summary = f"{s.done:,} / {s.total:,} calls answered · {cost(s)} · {progress_format.format_duration(s.elapsed_s)}"
    found = [f"{_SIGNS[s.state]} {label(s)} ({marked}): {summary}"]
    if s.counts:
        found.append("  " + " · ".join([*counts(s), models(s)]))
    if len(s.agents) > 1:
        found += [f"  {agent(each)}" for each in s.agents[:MAX_AGENTS]] + omitted_agents(s)
    return found


def cost(status: SessionStatus) -> str:
    """Return the cost paid by a session, and of all its answers if earlier runs or their jobs paid for some."""
    paid, total = status.cost_usd, status.total_cost_usd
    earlier = total is not None and paid is not None and total > paid * 1.000001
    return progress_format.format_usd(paid) + (f" ({progress_format.format_usd(total)} in all)" if earlier else "")


def label(status: SessionStatus) -> str:
    """Return a session's name: its directory relative to the current one, or the last parts of it."""
    path = Path(status.label)
    with suppress(ValueError):  # not below the current directory
        path = path.relative_to(Path.cwd())
    return str(path) if len(path.parts) <= _MAX_PARTS else "/".join(["…", *path.parts[-_MAX_PARTS:]])


def counts(status: SessionStatus) -> list[str]:
    """Return the number of calls in each non-empty state."""
    return [f"{status.counts[state]:,} {state}" for state in STATES if status.counts.get(state)]


def models(status: SessionStatus) -> str:
    """Return the names of the models, or of the first few if there are many."""
    named = list(status.models[:_MAX_MODELS])
    more = len(status.models) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def agent(status: AgentStatus) -> str:
    """Return an agent's status."""
    failed = f" · {status.failed:,} failed" if status.failed else ""
    return f"{status.name}: {status.done:,} / {status.calls:,}{failed}"


def omitted_agents(status: SessionStatus) -> list[str]:
    """Return a line with the number of agents without their own line, if any."""
    more = len(status.agents) - MAX_AGENTS
    return [f"  and {more:,} more agents"] if more > 0 else []
