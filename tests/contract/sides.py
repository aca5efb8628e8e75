"""The five ways a call can leave this package, each through the provider's real SDK to the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import pllm_notebook as pllm
from pllm_notebook.sim import Simulator

__all__ = ["ANTHROPIC", "COMPATIBLE", "EVERY_SIDE", "GOOGLE", "HOSTED", "OPENAI", "RESPONSES", "Side", "reach"]


@dataclass(frozen=True)
class Side:
    """One wire format.

    Attributes:
        id: A word for it.
        provider: The part of a model's name before the colon.
        name: The model as the provider takes it.
        wire: What `Simulator.base_url` calls it.
        key: The environment variable of its key, "" for none.
        address: The environment variable of its address, "" for none.
        dialect: The name of its schema dialect.
        priced: genai-prices' provider id, "" where nobody knows a price.
    """

    id: str
    provider: str
    name: str
    wire: str
    key: str
    address: str
    dialect: str
    priced: str

    @property
    def model(self) -> str:
        """The model as a person writes it."""
        return f"{self.provider}:{self.name}"


OPENAI = Side("openai", "openai", "gpt-6-luna", "openai", "OPENAI_API_KEY", "OPENAI_BASE_URL", "openai", "openai")
RESPONSES = Side("responses", "openai", "gpt-5-pro", "openai", "OPENAI_API_KEY", "OPENAI_BASE_URL", "openai", "openai")
ANTHROPIC = Side(
    "anthropic", "anthropic", "claude-haiku-5-5", "anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL",
    "anthropic", "anthropic",
)  # fmt: skip
GOOGLE = Side(
    "google", "google", "gemini-3.5-flash-lite", "google", "GOOGLE_API_KEY", "GOOGLE_BASE_URL", "google", "google"
)
COMPATIBLE = Side("compatible", "mine", "small", "compatible", "MINE_API_KEY", "", "grammar", "")

HOSTED = [OPENAI, RESPONSES, ANTHROPIC, GOOGLE]
EVERY_SIDE = [*HOSTED, COMPATIBLE]


def reach(side: Side, sim: Simulator, monkeypatch: pytest.MonkeyPatch, key: str = "any-key") -> None:
    """Let calls of *side* go to *sim*, under *key*."""
    monkeypatch.setenv(side.key, key)
    if side.address:
        monkeypatch.setenv(side.address, sim.base_url(side.wire))
    else:
        pllm.configure(servers={side.provider: sim.base_url(side.wire)})
