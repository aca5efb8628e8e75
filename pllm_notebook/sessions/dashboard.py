"""A session as it stands, for whoever shows it, and the clock on which it is shown.

The display itself comes from the notebook room (`display_registry.board`), as it does for runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from pllm_notebook import display_registry

if TYPE_CHECKING:
    from pllm_notebook.sessions.session_call import SessionCall
    from pllm_notebook.sessions.session_store import SessionStore

__all__ = ["STATES", "AgentStatus", "Dashboard", "SessionDisplay", "SessionStatus", "count"]

logger = logging.getLogger("pllm_notebook")

# As often as a run's own display, and never a large part of the time: of 10,000 calls a look takes milliseconds.
_REDRAW_S = 0.1
_SHARE = 0.05

STATES = ("cached", "stored", "received", "sent", "pending", "failed", "asked")
"""What can be the matter with a call, what is done first.

"cached": the answer was there. "stored": it came in this session, and is kept. "received": it came, and is being
written. "sent": on its way. "pending": in a batch job. "failed": it has no answer. "asked": gathered, and not sent.
"""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The calls of one agent.

    Attributes:
        name: The agent's.
        calls: How many it has asked; equal ones are one.
        done: Of them, those with an answer.
        failed: Of them, those that failed.
    """

    name: str
    calls: int
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """A session at one moment.

    Attributes:
        label: Its directory, for the display's first words.
        strategy: "sync", "async", "batch" or "hybrid"; "dry run" for one that sends nothing.
        models: Whom it has asked, in the order they were first asked.
        simulated: Whether there are invented answers among them.
        counts: Calls by state (see `STATES`), equal ones once; states that no call is in may be absent.
        agents: In the order they first asked.
        cost_usd: What the session has paid so far, None for unknown.
        total_cost_usd: What its answers cost, those of earlier runs and their jobs among them, None for unknown.
        elapsed_s: Since it began.
        state: "running", "done", "paused" where the program ended at a value that is not there yet, or "failed".
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
        """All calls."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Calls with an answer that is kept."""
        return self.counts.get("cached", 0) + self.counts.get("stored", 0)


@runtime_checkable
class SessionDisplay(Protocol):
    """A display of a session. `open`, `write` and `close` on the program's thread, `update` on another."""

    def open(self, status: SessionStatus) -> None:
        """Show the start, in the cell that is running."""

    def update(self, status: SessionStatus) -> None:
        """Show the session as it is now."""

    def write(self, text: str) -> None:
        """Print something that the program says, above what is shown where the two share a terminal."""

    def close(self, status: SessionStatus) -> None:
        """Show the end, in a form that stays."""


class Dashboard:
    """Shows a session from its first call to its end. A display that fails costs nothing else.

    Args:
        look: Tells how the session stands; called on a thread of this dashboard too.
        board: Where it is shown, None for what there is here.
    """

    def __init__(self, read_status: Callable[[], SessionStatus], board: SessionDisplay | None = None) -> None:
        self._read_status = read_status
        self._display = board or _display_here()
        # Drawing is slow, and a terminal has one cursor: one thread at a time.
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._clock: threading.Thread | None = None

    def open(self) -> None:
        """Begin to show. A second time does nothing."""
        if self._clock is not None:
            return
        self._draw("open")
        self._clock = threading.Thread(target=self._tick, name="pllm-dashboard", daemon=True)
        self._clock.start()

    def write(self, text: str) -> None:
        """Print something that the program says."""
        with self._lock:
            board = self._display
            if board is None:
                print(text)
                return
            try:
                board.write(text)
            except Exception:
                self._detach_display()
                print(text)

    def close(self) -> None:
        """Show the end, and stop. A second time does nothing."""
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
        logger.exception("The dashboard failed and is left alone from here on")
        self._display = None


def count(
    asked: Mapping[str, Iterable[SessionCall]], session_store: SessionStore
) -> tuple[Mapping[str, int], tuple[AgentStatus, ...], tuple[str, ...]]:
    """Count calls by state and by agent, and name the models that they ask.

    Args:
        asked: Calls by agent.
        session_store: Where their answers go.

    Returns:
        Counts by state, of each different call once; each agent's own; models as a person names them.
    """
    agents = []
    different: dict[SessionCall, None] = {}
    for name, some in asked.items():
        own = dict.fromkeys(some)
        different |= own
        kinds = Counter(session_call.stage for session_call in own)
        agents.append(AgentStatus(name, len(own), kinds["cached"] + kinds["stored"], kinds["failed"]))
    counts = Counter(_state(session_call, session_store) for session_call in different)
    models = {session_call.call.model: session_call.call for session_call in different}
    return counts, tuple(agents), tuple(session_store.ask(call).target.label for call in models.values())


def _state(session_call: SessionCall, session_store: SessionStore) -> str:
    if session_call.stage == "sent" and session_store.store.queued(session_call.key) is not None:
        return "received"
    return session_call.stage


def _display_here() -> SessionDisplay | None:
    board = display_registry.session_display()
    assert board is None or isinstance(board, SessionDisplay)
    return board
