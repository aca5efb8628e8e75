"""A program that the tests of sessions run: a tournament whose winner is known, asked of a simulated provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.sessions import Session
from pllm_notebook.sim import SimRequest, Simulator
from pllm_notebook.store import close_stores
from tests.contract.sides import OPENAI

ENZYMES = ["amylase", "catalase", "lipase", "lysozyme", "pepsin", "rennin", "trypsin", "urease"]
WINNER = "catalase"
CALLS = 8
"""The names, and a call for each match."""

# The stronger first.
_STRENGTH = [WINNER, "urease", "pepsin", "amylase", "trypsin", "lipase", "rennin", "lysozyme"]
LONG_S = 1000.0
STRATEGIES = ("sync", "async", "batch", "hybrid")


def tournament_answers(request: SimRequest) -> str:
    """Name the enzymes, or the stronger of two."""
    if "Name 8 enzymes" in request.prompt:
        return "\n".join(ENZYMES)
    return next(name for name in _STRENGTH if name in request.prompt)


def tournament(directory: Path, **options: Any) -> tuple[str | None, Session]:
    """Run the program; the winner is None where its block ended early."""
    winner = None
    with pllm.resume_directory(directory, **({"confirm": False} | options)) as session, session.agent("judge") as agent:
        teams = agent.ask_llm("Name 8 enzymes, one a line.").resolve().splitlines()
        while len(teams) > 1:
            asked = [
                agent.ask_llm("Choose one; answer with its name only.", a, b)
                for a, b in zip(teams[::2], teams[1::2], strict=True)
            ]
            teams = [reply.resolve() for reply in asked]
        winner = teams[0]
    return winner, session


def restart() -> None:
    """What a kernel's end does."""
    engine.shutdown()
    close_stores()


def session_in(directory: Path, **options: Any) -> Session:
    """Open a session with a simulated provider's model, which submits without a question."""
    return pllm.resume_directory(directory, **({"model": OPENAI.model, "confirm": False} | options))


def counted(sim: Simulator) -> int:
    """Return how much was sent, live and in jobs."""
    stats = sim.stats()
    return stats.requests + stats.batch_lines
