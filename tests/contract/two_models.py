"""A strong model and a cheap one behind the simulator, which differ at known rates; for promises about a table."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel

from pllm_notebook.sim import SimAnswer, SimRequest, Simulator

__all__ = ["CHEAP", "MOODS", "PROMPT", "STRONG", "Review", "TwoModels", "ask", "frame", "options", "unit"]

PROMPT = "What is {text}?"
CHEAP, STRONG = "openai:gpt-6-luna", "openai:gpt-6-sol"
MOODS = ("good", "bad", "mixed")


class Review(BaseModel):
    """Facts."""

    mood: Literal["good", "bad", "mixed"]
    fits: bool
    note: str


def unit(*parts: object) -> float:
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class TwoModels:
    """A strong model, and a cheap one that differs from it where it is unsure, and seldom where it is sure.

    Args:
        unsure: Share of texts that it is unsure of.
        wrong: Share of those where it differs.
        sure_wrong: Share of the others where it differs.
    """

    def __init__(self, sim: Simulator, *, unsure: float = 0.2, wrong: float = 0.5, sure_wrong: float = 0.01) -> None:
        self.sim, self.unsure, self.wrong, self.sure_wrong = sim, unsure, wrong, sure_wrong
        sim.set(answers=self)

    @staticmethod
    def text(request: SimRequest) -> str:
        return request.prompt.removeprefix("What is ").removesuffix("?")

    def strong(self, text: str) -> dict[str, Any]:
        return {"mood": MOODS[int(unit(text, "mood") * 3)], "fits": unit(text, "fits") < 0.5, "note": "strong"}

    def is_unsure(self, text: str) -> bool:
        return unit(text, "unsure") < self.unsure

    def cheap(self, text: str) -> dict[str, Any]:
        value = self.strong(text)
        differs = unit(text, "differs") < (self.wrong if self.is_unsure(text) else self.sure_wrong)
        other = MOODS[(MOODS.index(value["mood"]) + 1) % 3]
        return value | {"note": "cheap"} | ({"mood": other} if differs else {})

    def __call__(self, request: SimRequest) -> SimAnswer:
        text = self.text(request)
        if STRONG.endswith(request.model):
            return SimAnswer.value(self.strong(text))
        value = self.cheap(text)
        p = 0.4 if self.is_unsure(text) else 0.9 + 0.09 * unit(text, "p")
        rest = dict.fromkeys(MOODS, (1 - p) / 2)
        return SimAnswer.value(value, probabilities={"mood": rest | {value["mood"]: p}})


def frame(rows: int, copies: int = 1) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"thing {n // copies}" for n in range(rows)]})


def options(**given: Any) -> dict[str, Any]:
    """The options of a cascade with a promise."""
    return {"model": CHEAP, "judge": STRONG, "decide": "escalate", "guarantee": 0.95, "effort": "none"} | given


def ask(df: Any, **given: Any) -> Any:
    return df.llm.parse(Review, PROMPT, **options(**given))
