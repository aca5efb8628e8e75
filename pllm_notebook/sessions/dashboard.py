"""The status of a session, and the thread that shows it at intervals.

The display itself is registered by the `notebook` package (`display_registry.session_display`), as for runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from pllm_notebook import display_registry
from pllm_notebook.formatting import counted, format_usd
from pllm_notebook.report_tables import HTMLFacts
from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.sessions.session_store import SessionStore

__all__ = ["STATES", "AgentStatus", "Dashboard", "SessionDisplay", "SessionStatus", "count"]

logger = logging.getLogger("pllm_notebook")

# The interval of a run's display, lengthened so that drawing takes at most `_SHARE` of the time: counting 10,000 calls
# takes milliseconds.
_REDRAW_S = 0.1
_SHARE = 0.05

_MOST_AGENTS = 12  # a program may have a thousand

STATES = ("cached", "stored", "received", "sent", "pending", "failed", "asked")
"""The states of a call, finished ones first.

"cached": the answer was in the store. "stored": answered in this session, and stored. "received": answered, being
written. "sent": in flight. "pending": in a batch job. "failed": no answer. "asked": collected, not sent.
"""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The calls of one agent.

    Attributes:
        name: The agent's name.
        calls: Number of different calls.
        done: Calls with an answer.
        failed: Calls that failed.
    """

    name: str
    calls: int
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class SessionStatus(HTMLFacts):
    """Status of a session at one moment.

    Attributes:
        label: Its directory, the title of the display.
        strategy: "sync", "async", "batch" or "hybrid"; "dry run" for one that sends nothing.
        models: Models in the order of their first calls.
        simulated: Whether some answers come from a simulator.
        counts: Different calls by state (see `STATES`); a state without calls may be absent.
        agents: Status of each agent, in the order of their first calls.
        cost_usd: US dollars paid by this session so far, None if unknown.
        total_cost_usd: Cost of all its answers, including earlier runs and their jobs; None if unknown.
        elapsed_s: Seconds since the start.
        state: "running", "done", "paused" if the program stopped at a pending value, or "failed".
    """

    label: str
    strategy: str
    models: tuple[str, ...] = ()
    simulated: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    agents: tuple[AgentStatus, ...] = ()
    cost_usd: float | None = 0.0
    total_cost_usd: float | None = 0.0
    elapsed_s: float = 0.0
    state: Literal["running", "done", "paused", "failed"] = "running"

    @property
    def total(self) -> int:
        """Number of calls."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Number of calls with a stored answer."""
        return self.counts.get("cached", 0) + self.counts.get("stored", 0)

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "session", f"{self.label} ({self.strategy}, {self.state}){' SIMULATED' if self.simulated else ''}"
        counts = ", ".join(f"{self.counts[state]:,} {state}" for state in STATES if self.counts.get(state))
        yield "calls", counts or "none yet"
        for agent in self.agents[:_MOST_AGENTS]:
            failed = f", {agent.failed:,} failed" if agent.failed else ""
            yield f"agent {agent.name}", f"{agent.done:,} of {counted(agent.calls, 'call')} answered{failed}"
        if len(self.agents) > _MOST_AGENTS:
            yield "", f"and {len(self.agents) - _MOST_AGENTS:,} more agents"
        if self.models:
            yield "models", ", ".join(self.models)
        yield "cost", f"{format_usd(self.cost_usd)} paid; {format_usd(self.total_cost_usd)} with earlier runs"
        yield "next", "dashboard() shows it live; pllm.errors(session) what failed; export_all(path) writes its calls"


@runtime_checkable
class SessionDisplay(Protocol):
    """A display of a session. `open`, `write` and `close` run on the program's thread, `update` on another."""

    def open(self, status: SessionStatus) -> None:
        """Show the initial status, in the running cell."""

    def update(self, status: SessionStatus) -> None:
        """Show the current status."""

    def write(self, text: str) -> None:
        """Print a text of the program, above the display if they share a terminal."""

    def close(self, status: SessionStatus) -> None:
        """Show the final status, in a form that stays."""


class Dashboard:
    """The display of a session until it ends. A display that fails is dropped and affects nothing else.

    Args:
        read_status: Returns the status. Also called on this dashboard's thread.
        display: Where the session is shown. None for the environment's default.
    """

    def __init__(self, read_status: Callable[[], SessionStatus], display: SessionDisplay | None = None) -> None:
        self._read_status = read_status
        self._display = display or _default_display()
        # Drawing is slow, and a terminal has one cursor: one thread at a time.
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._clock: threading.Thread | None = None

    def open(self) -> None:
        """Start showing the session. A second call does nothing."""
        if self._clock is not None:
            return
        self._draw("open")
        self._clock = threading.Thread(target=self._tick, name="pllm-dashboard", daemon=True)
        self._clock.start()

    def write(self, text: str) -> None:
        """Print a text of the program."""
        with self._lock:
            display = self._display
            if display is None:
                print(text)
                return
            try:
                display.write(text)
            except Exception:
                self._detach_display()
                print(text)

    def close(self) -> None:
        """Show the final status, and stop. A second call does nothing."""
        if self._over.is_set():
            return
        self._over.set()
        if self._clock is not None:
            self._clock.join()
        self._draw("close")

    def _tick(self) -> None:
        pause_s = _REDRAW_S
        while not self._over.wait(pause_s):
            begun = time.monotonic()
            self._draw("update")
            pause_s = max(_REDRAW_S, (time.monotonic() - begun) / _SHARE)

    def _draw(self, how: Literal["open", "update", "close"]) -> None:
        with self._lock:
            if self._display is None:
                return
            try:
                getattr(self._display, how)(self._read_status())
            except Exception:
                self._detach_display()

    def _detach_display(self) -> None:
        logger.exception("The dashboard failed and is no longer updated")
        self._display = None


def count(
    calls: Mapping[str, Iterable[SessionCall]], session_store: SessionStore
) -> tuple[Mapping[str, int], tuple[AgentStatus, ...], tuple[str, ...]]:
    """Count calls by state and by agent, and list their models.

    Args:
        calls: Calls by agent.
        session_store: The store of their answers.

    Returns:
        Different calls by state; the status of each agent; the models' labels.
    """
    agents = []
    different: dict[SessionCall, None] = {}
    for name, some in calls.items():
        own = dict.fromkeys(some)
        different |= own
        kinds = Counter(session_call.stage for session_call in own)
        agents.append(AgentStatus(name, len(own), kinds["cached"] + kinds["stored"], kinds["failed"]))
    counts = Counter(_state(session_call, session_store) for session_call in different)
    models = {session_call.call.model: session_call.call for session_call in different}
    return counts, tuple(agents), tuple(session_store.spec(call).target.label for call in models.values())


def _state(session_call: SessionCall, session_store: SessionStore) -> str:
    if session_call.stage == "sent" and session_store.store.queued(session_call.key) is not None:
        return "received"
    return session_call.stage


def _default_display() -> SessionDisplay | None:
    display = display_registry.session_display()
    assert display is None or isinstance(display, SessionDisplay)
    return display
